//! The rules for each attribute (`CloudEvents` 1.0.2, sections 2 and 3), on their JSON text.
//!
//! Pure, and total: any text has an answer. Senders that write otherwise are read leniently, and
//! these rules then tell what is odd.

use url::Url;

use super::{
    error::DecodeError,
    limits::MAX_IDENTITY,
    names::{is_attribute_name, is_core},
};

/// Checks one member of an event, given as the JSON text of its value, which is not `null`.
pub(super) fn check(name: &str, json: &str) -> Result<(), DecodeError> {
    if matches!(name, "data" | "data_base64") {
        return Ok(());
    }
    let fault = |rule| DecodeError::attribute(name, rule);
    if !is_attribute_name(name) {
        return Err(fault("has a name that is not only a-z and 0-9"));
    }
    let text = match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(json).map_err(|_| fault("is not Unicode"))?,
        _ if is_core(name) => return Err(fault("is not a string")),
        Some(b't' | b'f') => return Ok(()),
        _ if json.parse::<i64>().is_ok() => return Ok(()),
        _ => return Err(fault("is not a string, boolean or integer")),
    };
    match text_fault(name, &text) {
        Some(rule) => Err(fault(rule)),
        None => Ok(()),
    }
}

/// How deep objects and arrays nest in a JSON text; for a text that is no JSON, at least as deep
/// as a parser gets before it notices.
pub(super) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn text_fault(name: &str, text: &str) -> Option<&'static str> {
    let identity = matches!(name, "id" | "source" | "type");
    let optional = matches!(name, "datacontenttype" | "dataschema" | "subject");
    match name {
        "specversion" if text != "1.0" => Some("is not 1.0, the only version that is read"),
        _ if (identity || optional) && text.is_empty() => Some("is empty"),
        _ if identity && text.len() > MAX_IDENTITY => Some("is longer than 4096 bytes"),
        // Section 2.1, String.
        _ if text.chars().any(char::is_control) => Some("has control characters"),
        "source" if !is_uri_reference(text) => Some("is not a URI reference"),
        "dataschema" if Url::parse(text).is_err() => Some("is not a URI"),
        "time" if !is_rfc_3339(text) => Some("is not an RFC 3339 time"),
        _ => None,
    }
}

/// RFC 3986 section 4.1; characters beyond ASCII pass as well (RFC 3987), as senders use them.
fn is_uri_reference(text: &str) -> bool {
    let legal = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || RFC_3986.contains(c);
    // Before the first of these stands a scheme, or a first segment without a colon.
    let scheme = match text.find([':', '/', '?', '#']) {
        Some(end) if text.get(end..).is_some_and(|rest| rest.starts_with(':')) => text.get(..end),
        _ => None,
    };
    text.chars().all(legal)
        && text.split('%').skip(1).all(begins_with_two_hex_digits)
        && text.matches('#').count() <= 1
        && scheme.is_none_or(is_scheme)
}

/// Reserved and unreserved characters other than letters and digits, and `%`.
const RFC_3986: &str = "-._~:/?#[]@!$&'()*+,;=%";

fn begins_with_two_hex_digits(text: &str) -> bool {
    text.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
}

/// RFC 3339 section 5.6 `date-time`, with any number of fraction digits and leap seconds.
fn is_rfc_3339(text: &str) -> bool {
    let Some((moment, rest)) = text.split_at_checked(19) else { return false };
    let rest = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            if end == 0 {
                return false;
            }
            fraction.get(end..).unwrap_or_default()
        }
    };
    has_shape(moment, "0000-00-00T00:00:00")
        && moment.to_ascii_uppercase().parse::<jiff::civil::DateTime>().is_ok()
        && is_offset(rest)
}

fn is_offset(text: &str) -> bool {
    if text.eq_ignore_ascii_case("z") {
        return true;
    }
    let Some(clock) = text.strip_prefix(['+', '-']) else { return false };
    let in_range = |range: std::ops::Range<usize>, end: u8| {
        clock.get(range).and_then(|two| two.parse::<u8>().ok()).is_some_and(|n| n < end)
    };
    has_shape(clock, "00:00") && in_range(0..2, 24) && in_range(3..5, 60)
}

/// Whether `text` has a digit wherever `shape` has a `0`, and else the same characters.
fn has_shape(text: &str, shape: &str) -> bool {
    let alike =
        |(c, s): (u8, u8)| if s == b'0' { c.is_ascii_digit() } else { c.eq_ignore_ascii_case(&s) };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(alike)
}
