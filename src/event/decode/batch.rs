//! A JSON array of events (JSON event format, section 4).

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    error::DecodeError,
    limits::{MAX_BATCH, MAX_DEPTH},
    rules,
    strictness::Rules,
    structured,
};
use crate::event::Event;

/// A member of a batch: an event, or its bytes and what is wrong with them.
pub type Member = Result<Event, (Bytes, DecodeError)>;

/// Every event of the batch with its exact bytes, or the first fault.
pub(super) fn read(text: &str, by: Rules) -> Result<Vec<Event>, DecodeError> {
    let read = |(index, item): (usize, &&RawValue)| {
        // Copied, not sliced: a slice would hold the whole batch for as long as one of its events.
        let event = structured::read(Bytes::copy_from_slice(item.get().as_bytes()), by);
        event.map_err(|fault| fault.in_batch(index))
    };
    members(text)?.iter().enumerate().map(read).collect()
}

/// Every member by itself.
pub(super) fn each(body: &[u8], by: Rules) -> Result<Vec<Member>, DecodeError> {
    // Where members begin and end is told by ASCII alone. So a member that is not UTF-8 does not
    // stand in the way of the others.
    let ascii: String =
        body.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { 'x' }).collect();
    let read = |(index, item): (usize, &&RawValue)| {
        let begin = item.get().as_ptr().addr() - ascii.as_ptr().addr();
        let member = body.get(begin..begin + item.get().len()).unwrap_or_default();
        let member = Bytes::copy_from_slice(member);
        one(member.clone(), by).map_err(|fault| (member, fault.in_batch(index)))
    };
    Ok(members(&ascii)?.iter().enumerate().map(read).collect())
}

fn members(text: &str) -> Result<Vec<&RawValue>, DecodeError> {
    let items: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|fault| DecodeError::syntax(&fault))?;
    if items.len() > MAX_BATCH {
        return Err(DecodeError::body("has more than 1000 events"));
    }
    Ok(items)
}

fn one(member: Bytes, by: Rules) -> Result<Event, DecodeError> {
    let text = str::from_utf8(&member).map_err(|_| DecodeError::body("is not UTF-8"))?;
    // The batch is a level of its own.
    if rules::depth(text) >= MAX_DEPTH {
        return Err(DecodeError::body("is nested deeper than 64"));
    }
    structured::read(member, by)
}
