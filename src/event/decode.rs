//! From a request's head and body to events, by the `CloudEvents` 1.0 rules.
//!
//! Owns the order of the steps: media type, then the shape of the body, then each event's
//! attributes. All four content modes are read: structured, batch and binary, and structured or
//! batch under plain `application/json`, as Altinn sends it. Knows no source, socket or store.

mod batch;
mod binary;
pub mod error;
mod limits;
pub mod media_type;
mod names;
mod rules;
mod strictness;
mod structured;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::HeaderMap;

pub use self::batch::Member;
pub use self::limits::{MAX_ATTRIBUTES, MAX_BATCH, MAX_DEPTH, MAX_IDENTITY};
use super::Event;
use error::DecodeError;
use media_type::{MediaType, media_type_of};
pub use strictness::Rules;

/// The events of a request: one, or those of a batch; every one good, or none.
pub fn decode(head: &HeaderMap, body: Bytes, by: Rules) -> Result<Vec<Event>, DecodeError> {
    match media_type_of(head) {
        Some(MediaType::Json) => decode_json(body, by),
        Some(MediaType::Binary) => binary::read(head, &body, by).map(|event| vec![event]),
        None => Err(DecodeError::body("is not of a CloudEvent's media type")),
    }
}

/// The same, and of a batch each member by itself: one that is no event does not spoil the others.
/// A body that cannot be taken apart is a fault of all of it.
pub fn decode_each(head: &HeaderMap, body: Bytes, by: Rules) -> Result<Vec<Member>, DecodeError> {
    if media_type_of(head) == Some(MediaType::Json) {
        let body = without_byte_order_mark(body.clone());
        if body.trim_ascii_start().first() == Some(&b'[') {
            return batch::each(&body, by);
        }
    }
    decode(head, body, by).map(|events| events.into_iter().map(Ok).collect())
}

/// The events in a JSON text: an object is one event, an array a batch, whatever its media type
/// says.
pub fn decode_json(body: Bytes, by: Rules) -> Result<Vec<Event>, DecodeError> {
    let body = without_byte_order_mark(body);
    let text = str::from_utf8(&body).map_err(|_| DecodeError::body("is not UTF-8"))?;
    if rules::depth(text) > MAX_DEPTH {
        return Err(DecodeError::body("is nested deeper than 64"));
    }
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => batch::read(text, by),
        Some(b'{') => structured::read(body, by).map(|event| vec![event]),
        Some(_) => Err(DecodeError::body("is neither a JSON object nor an array")),
        None => Err(DecodeError::body("is empty")),
    }
}

/// RFC 8259 section 8.1 lets a reader pass over the mark; it is no part of the JSON text.
fn without_byte_order_mark(body: Bytes) -> Bytes {
    if body.starts_with(b"\xEF\xBB\xBF") { body.slice(3..) } else { body }
}
