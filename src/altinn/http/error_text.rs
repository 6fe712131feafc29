//! What the other side says when it refuses, in words that may be shown.
//!
//! Altinn's error bodies are a JSON string, a problem object (RFC 7807), nothing, or a page; the
//! media type does not tell which, so the content decides. Owns the rule that such words are
//! bounded and hold no token, no `code` and no number of a person or an organisation.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Longest text that is kept, in characters.
const MAX_CHARS: usize = 500;

/// What went wrong, for people. Two are equal when they say the same, whatever their trace ids.
#[derive(Debug, Clone, Default, Eq, Serialize)]
pub struct ErrorText {
    /// One line; may be empty.
    pub text: String,
    /// What the other side's support asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl PartialEq for ErrorText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "no reason given" } else { &self.text })
    }
}

impl ErrorText {
    /// Makes a text safe to show, and takes Maskinporten's `(trace_id: …)` out of it.
    pub fn new(text: &str) -> Self {
        let (text, trace_id) = match text.split_once("(trace_id:") {
            None => (text.to_owned(), None),
            Some((before, rest)) => {
                let (id, after) = rest.split_once(')').unwrap_or((rest, ""));
                (format!("{} {}", before.trim(), after.trim()), plain(id.trim()))
            }
        };
        Self { text: shown(&text), trace_id }
    }

    /// What an error body says.
    pub fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::String(text)) => Self::new(&text),
            Ok(Value::Object(problem)) => of_problem(&problem),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
                of_page(&String::from_utf8_lossy(body))
            }
        }
    }
}

/// A problem object, the gateway's `{statusCode, message}`, or an OAuth error (RFC 6749 5.2).
fn of_problem(problem: &serde_json::Map<String, Value>) -> ErrorText {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    let heads = ["title", "detail", "message", "error", "error_description"];
    let mut said: Vec<&str> = heads.into_iter().filter_map(text).collect();
    if let Some(Value::Object(errors)) = problem.get("errors") {
        let lists = errors.values().take(5).filter_map(Value::as_array);
        said.extend(lists.flat_map(|list| list.iter().take(3)).filter_map(Value::as_str));
    }
    let mut words = ErrorText::new(&said.join(": "));
    words.trace_id = words.trace_id.or_else(|| text("traceId").and_then(plain));
    words
}

/// Neither: an HTML page says nothing to people, other text is taken as it is.
fn of_page(text: &str) -> ErrorText {
    if text.trim_start().starts_with('<') {
        ErrorText::new("an HTML page")
    } else {
        ErrorText::new(text)
    }
}

fn plain(id: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!id.is_empty() && id.len() <= 80 && id.chars().all(legal)).then(|| id.to_owned())
}

/// One bounded line without anything secret or personal.
fn shown(text: &str) -> String {
    let mut line = String::new();
    let mut chars = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        let word = masked(word);
        let length = word.chars().count() + 1;
        if chars + length > MAX_CHARS {
            line.extend(word.chars().take(MAX_CHARS.saturating_sub(chars + 1)));
            line.push('…');
            break;
        }
        chars += length;
        line.push_str(&word);
        line.push(' ');
    }
    line.trim_end().to_owned()
}

/// A word without tokens, URL queries and numbers of nine or eleven digits.
fn masked(word: &str) -> String {
    if word.contains("eyJ") {
        return "***".to_owned();
    }
    let (head, query) = match word.split_once("code=") {
        Some((head, _)) => (head, "code=***"),
        None => (word, ""),
    };
    let mut out = String::with_capacity(word.len());
    let mut rest = head;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (between, run) = rest.split_at(start);
        let end = run.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        let number = matches!(run.len(), 9 | 11) && run.bytes().all(|c| c.is_ascii_digit());
        out.push_str(between);
        out.push_str(if number { "***" } else { run });
        rest = after;
    }
    out + rest + query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_an_error_body_is_told_in_words() {
        for (body, text, trace) in [
            (
                r#""Resource filter must be a valid urn""#,
                "Resource filter must be a valid urn",
                None,
            ),
            ("", "", None),
            ("  \r\n", "", None),
            (
                r#"{"title":"Unauthorized","status":401,"traceId":"00-3755-00"}"#,
                "Unauthorized",
                Some("00-3755-00"),
            ),
            (
                r#"{"title":"One or more.","errors":{"$":["a comma","b"],"x":["c"]}}"#,
                "One or more.: a comma: b: c",
                None,
            ),
            (r#"{"statusCode":401,"message":"Access denied"}"#, "Access denied", None),
            ("<!DOCTYPE html><p>x", "an HTML page", None),
            ("plain\ntext", "plain text", None),
            ("[1]", "[1]", None),
            ("42", "42", None),
        ] {
            let words = ErrorText::of_body(body.as_bytes());
            assert_eq!((words.text.as_str(), words.trace_id.as_deref()), (text, trace), "{body}");
        }
    }

    #[test]
    fn nothing_secret_or_personal_is_in_the_words() {
        for (text, shown) in [
            ("no access for 0192:999888777.", "no access for 0192:***."),
            ("person 01017012345", "person ***"),
            ("token eyJhbGciOi.eyJx.y bad", "token *** bad"),
            ("https://h.example/hooks/a?code=abcdef bad", "https://h.example/hooks/a?code=*** bad"),
            ("a 9998887771 b a999888777", "a 9998887771 b a999888777"),
        ] {
            assert_eq!(ErrorText::new(text).text, shown);
        }
    }

    #[test]
    fn the_words_are_bounded() {
        for text in ["å".repeat(100_000), "å ".repeat(100_000)] {
            let length = ErrorText::new(&text).text.chars().count();
            assert!(length <= MAX_CHARS + 1, "{length}");
        }
    }

    #[test]
    fn maskinportens_trace_id_stands_by_itself() {
        let words = ErrorText::new("Invalid assertion. Expired key. (trace_id: 356666143081bbec)");
        assert_eq!(words.text, "Invalid assertion. Expired key.");
        assert_eq!(words.trace_id.as_deref(), Some("356666143081bbec"));
        let odd = ErrorText::new("x (trace_id: <b>");
        assert_eq!((odd.text.as_str(), odd.trace_id), ("x", None));
    }
}
