//! Binary mode: attributes in `ce-` headers, data in the body (HTTP binding, section 3.1).
//!
//! Rendered to the same structured JSON that every event is kept as, and held to the same rules.
//! The SDK's own reader of binary mode is not used: it does no percent-decoding, rewrites `time`,
//! and writes extensions in an order that changes.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{
    error::DecodeError,
    limits::{MAX_ATTRIBUTES, MAX_DEPTH},
    media_type, rules,
    strictness::Rules,
    structured,
};
use crate::event::Event;

/// The event that these headers and this body are.
pub(super) fn read(head: &HeaderMap, body: &[u8], by: Rules) -> Result<Event, DecodeError> {
    let attributes = attributes(head)?;
    let content_type = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let data = data(content_type, body)?;
    let rendered = Rendered { attributes, content_type, data };
    let json = serde_json::to_vec(&rendered).map_err(|fault| DecodeError::syntax(&fault))?;
    structured::read(Bytes::from(json), by)
}

fn attributes(head: &HeaderMap) -> Result<Vec<(&str, String)>, DecodeError> {
    let mut attributes = Vec::new();
    for (header, value) in head {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        if matches!(name, "datacontenttype" | "data" | "data_base64") {
            return Err(DecodeError::attribute(name, "is not a header in binary mode"));
        }
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(DecodeError::body("has more than 64 attributes"));
        }
        attributes.push((name, text(name, value)?));
    }
    // One event is always rendered to the same bytes.
    attributes.sort_by_key(|(name, _)| *name);
    Ok(attributes)
}

/// HTTP binding 3.1.3.2: unquote, then percent-decode once.
fn text(name: &str, value: &HeaderValue) -> Result<String, DecodeError> {
    let fault = |rule| DecodeError::attribute(name, rule);
    let value = value.to_str().map_err(|_| fault("is a header that is not ASCII"))?;
    let unquoted = unquote(value).ok_or_else(|| fault("is a quoted header without an end"))?;
    let decoded = percent_decode_str(&unquoted).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| fault("is not percent-encoded UTF-8"))
}

/// The content of a quoted string (RFC 9110 section 5.6.4), or the value as it is.
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = value.strip_prefix('"') else { return Some(Cow::Borrowed(value)) };
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(Cow::Owned(text)),
            '\\' => text.push(characters.next()?),
            plain => text.push(plain),
        }
    }
}

enum Data<'a> {
    None,
    Json(&'a RawValue),
    Text(&'a str),
    Bytes(&'a [u8]),
}

fn data<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<Data<'a>, DecodeError> {
    let Some(content_type) = content_type.filter(|_| !body.is_empty()) else {
        return Ok(if body.is_empty() { Data::None } else { Data::Bytes(body) });
    };
    if media_type::is_json(content_type) {
        return json(body).map(Data::Json);
    }
    let text = media_type::essence(content_type).starts_with("text/");
    match str::from_utf8(body) {
        Ok(body) if text && media_type::is_utf8(content_type) => Ok(Data::Text(body)),
        _ => Ok(Data::Bytes(body)),
    }
}

fn json(body: &[u8]) -> Result<&RawValue, DecodeError> {
    let fault = |rule| DecodeError::attribute("data", rule);
    let text = str::from_utf8(body).map_err(|_| fault("is not UTF-8"))?;
    // One level is the event's own.
    if rules::depth(text) >= MAX_DEPTH {
        return Err(fault("is nested deeper than 63"));
    }
    serde_json::from_str(text).map_err(|_| fault("is not the JSON that its Content-Type says"))
}

struct Rendered<'a> {
    attributes: Vec<(&'a str, String)>,
    content_type: Option<&'a str>,
    data: Data<'a>,
}

impl Serialize for Rendered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.attributes {
            map.serialize_entry(name, value)?;
        }
        if let Some(content_type) = self.content_type {
            map.serialize_entry("datacontenttype", content_type)?;
        }
        match self.data {
            Data::None => {}
            Data::Json(value) => map.serialize_entry("data", value)?,
            Data::Text(text) => map.serialize_entry("data", text)?,
            Data::Bytes(bytes) => {
                map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?;
            }
        }
        map.end()
    }
}
