//! Answers of Altinn's and Maskinporten's, and of the operator's own HTTP handlers.

use brevdue::{
    altinn::{
        feed::client::Content,
        fuzzing::{self, redacted},
        http::error_text::ErrorText,
    },
    clock::Timestamp,
    handler,
};
use serde_json::{Value, value::RawValue};
use url::Url;

/// Small, so that items that are too large are tried too.
const MAX_EVENT: usize = 512;

/// A page of the feed.
pub(crate) fn page(input: &[u8]) -> bool {
    let whole = serde_json::from_slice::<Vec<&RawValue>>(input);
    let Some(items) = fuzzing::page(input, MAX_EVENT) else {
        assert!(whole.is_err(), "a page of JSON is refused");
        return false;
    };
    let whole = whole.expect("a page is JSON");
    assert_eq!(items.len(), whole.len(), "an item was lost");
    for (item, raw) in items.iter().zip(whole) {
        match &item.content {
            Content::Event(event) => {
                assert_eq!(event.json(), raw.get().as_bytes(), "its bytes are others");
                assert_eq!(item.id.as_ref(), Some(&event.attributes().id), "it has another id");
            }
            Content::Unreadable { body, .. } => {
                let body = str::from_utf8(body).expect("a page is UTF-8");
                // Of a large one the beginning is kept, and what tells it from others behind that.
                let large = raw.get().len() > MAX_EVENT;
                let kept =
                    if large { body.rsplit_once("\n… ").expect("a digest").0 } else { body };
                assert!(raw.get().starts_with(kept), "its bytes are others");
            }
        }
    }
    items.iter().all(|item| matches!(item.content, Content::Event(_)))
}

/// The answer of the token exchange. The second reader is the library for JWTs.
pub(crate) fn token(input: &[u8]) -> bool {
    let Ok(body) = str::from_utf8(input) else { return false };
    let Some((jwt, expires)) = fuzzing::token(body) else { return false };
    assert!(body.contains(jwt) && jwt.split('.').count() == 3, "no JWT");
    assert!(http::HeaderValue::from_str(jwt).is_ok(), "it cannot be sent");
    if let Ok(other) = jsonwebtoken::dangerous::insecure_decode::<Value>(jwt)
        && let Some(seconds) = other.claims.get("exp").and_then(Value::as_u64)
    {
        let other = Timestamp::from_millis(seconds.saturating_mul(1000));
        assert_eq!(expires, other, "it ends at another time");
    }
    true
}

/// The body of a refusal. Accepted if it says anything.
pub(crate) fn words(input: &[u8]) -> bool {
    let ErrorText { text, trace_id } = ErrorText::of_body(input);
    assert!(text.chars().count() <= 501, "too long");
    assert!(!text.contains(char::is_control), "more than a line");
    let whole = text.strip_suffix('…').unwrap_or(&text);
    assert!(!whole.contains("eyJ"), "it shows a token");
    let code = whole.split_once("code=").map(|(_, code)| code);
    assert!(
        code.is_none_or(|code| "***".starts_with(&code[..code.len().min(3)])),
        "it shows a code"
    );
    // The last word of a text that was cut is not what it was.
    let cut = if whole.len() < text.len() { whole.rfind(' ').unwrap_or(0) } else { whole.len() };
    let personal =
        |run: &str| matches!(run.len(), 9 | 11) && run.bytes().all(|c| c.is_ascii_digit());
    let mut runs = whole[..cut].split(|c: char| !c.is_ascii_alphanumeric());
    assert!(!runs.any(personal), "it shows a number of someone's");
    assert!(trace_id.is_none_or(|id| id.len() <= 80), "a trace id of any length");
    !text.is_empty()
}

/// The endpoint of a subscription at Altinn.
pub(crate) fn endpoint(input: &[u8]) -> bool {
    let Some(url) = str::from_utf8(input).ok().and_then(|text| Url::parse(text).ok()) else {
        return false;
    };
    let once = fuzzing::normal(url.as_str());
    assert_eq!(fuzzing::normal(&once), once, "is another, again");
    let shown = redacted(&url);
    if shown == "***" {
        return true;
    }
    let shown = Url::parse(&shown).expect("what is shown is a URL");
    assert!(["", "***"].contains(&shown.username()) && shown.password().is_none(), "its user");
    assert!(shown.fragment().is_none_or(|text| text == "***"), "its fragment");
    for pair in shown.query().unwrap_or_default().split('&') {
        let value = pair.split_once('=').map_or(pair, |(_, value)| value);
        assert!(["", "***"].contains(&value), "a value of its query");
    }
    true
}

/// `Retry-After`, which has a reader for each side. Accepted if either reads it.
pub(crate) fn wait(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let now = Timestamp::from_millis(784_111_777_000);
    let (ours, other) = (fuzzing::retry_after(text, now), handler::http::retry_after(text, now));
    if let (Some(ours), Some(other)) = (ours, other) {
        assert_eq!(ours, other.min(fuzzing::MAX_RETRY_AFTER), "the two readers differ");
    }
    ours.is_some() || other.is_some()
}
