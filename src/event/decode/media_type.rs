//! Which requests can hold an event, told by their headers alone.
//!
//! Owns the media types that are read. It can be asked before the body is (design section 9:
//! 415 comes before 413).

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

/// Present in binary mode only (HTTP binding 3.1.3).
pub(super) const SPECVERSION: &str = "ce-specversion";

/// How the body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// JSON: one event or a batch, as the body shows.
    Json,
    /// The attributes are in `ce-` headers, the body is the data.
    Binary,
}

/// How this request's body is to be read; `None` is 415.
///
/// The headers cannot tell structured from batch, as Altinn sends both under
/// `application/json`. Formats of `CloudEvents` other than JSON, other character sets and content
/// codings are not read.
pub fn media_type_of(head: &HeaderMap) -> Option<MediaType> {
    if head.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return None;
    }
    let mut values = head.get_all(CONTENT_TYPE).iter();
    let content_type = match values.next() {
        Some(value) => value.to_str().ok()?,
        None => "",
    };
    if values.next().is_some() {
        return None;
    }
    let essence = essence(content_type);
    let json = match essence.as_str() {
        "application/cloudevents+json" | "application/cloudevents-batch+json" => true,
        other if other.starts_with("application/cloudevents") => return None,
        _ if head.contains_key(SPECVERSION) => return Some(MediaType::Binary),
        other => other == "application/json",
    };
    (json && is_utf8(content_type)).then_some(MediaType::Json)
}

/// Type and subtype in lower case, without parameters.
pub(super) fn essence(content_type: &str) -> String {
    let end = content_type.find(';').unwrap_or(content_type.len());
    content_type.get(..end).unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether data of this type is JSON (JSON event format 3.1.1): `…/json` or `…+json`.
pub(in crate::event) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("+json") || essence.ends_with("/json")
}

/// Whether its `charset`, if it has one, is UTF-8 or a part of it.
pub(super) fn is_utf8(content_type: &str) -> bool {
    content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase())
        .all(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
}
