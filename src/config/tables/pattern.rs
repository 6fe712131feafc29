//! Reading a pattern as it is written in `match`. Owns the syntax; matching is the filter's.

use std::str::FromStr;

/// A text to match, case-sensitive, with `*` at the beginning, the end, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// No `*`.
    Exact(String),
    /// `text*`; `*` alone is the empty prefix.
    Prefix(String),
    /// `*text`.
    Suffix(String),
    /// `*text*`.
    Contains(String),
}

impl Pattern {
    /// Whether `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(whole) => text == whole,
            Self::Prefix(start) => text.starts_with(start),
            Self::Suffix(end) => text.ends_with(end),
            Self::Contains(part) => text.contains(part),
        }
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It would match nothing, or everything: which, nobody can tell.
    #[error("is empty; leave the list out to match everything")]
    Empty,
    /// A star in the middle.
    #[error("has a '*' that is neither at the beginning nor at the end")]
    Star,
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        let (open_start, rest) = strip(text, text.strip_prefix('*'));
        let (open_end, middle) = strip(rest, rest.strip_suffix('*'));
        if middle.contains('*') {
            return Err(InvalidPattern::Star);
        }
        let middle = middle.to_owned();
        Ok(match (open_start, open_end) {
            _ if middle.is_empty() => Self::Prefix(middle),
            (false, false) => Self::Exact(middle),
            (false, true) => Self::Prefix(middle),
            (true, false) => Self::Suffix(middle),
            (true, true) => Self::Contains(middle),
        })
    }
}

fn strip<'a>(whole: &'a str, stripped: Option<&'a str>) -> (bool, &'a str) {
    (stripped.is_some(), stripped.unwrap_or(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_read_at_the_beginning_and_the_end_only() {
        let text = |text: &str| text.to_owned();
        for (written, expected) in [
            ("a.b", Ok(Pattern::Exact(text("a.b")))),
            ("a.*", Ok(Pattern::Prefix(text("a.")))),
            ("*.b", Ok(Pattern::Suffix(text(".b")))),
            ("*b*", Ok(Pattern::Contains(text("b")))),
            ("*", Ok(Pattern::Prefix(text("")))),
            ("**", Ok(Pattern::Prefix(text("")))),
            ("a*b", Err(InvalidPattern::Star)),
            ("***", Err(InvalidPattern::Star)),
            ("", Err(InvalidPattern::Empty)),
        ] {
            assert_eq!(written.parse::<Pattern>(), expected, "{written:?}");
        }
    }
}
