//! A JSON array of events (JSON event format, section 4).

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{error::DecodeError, limits::MAX_BATCH, strictness::Rules, structured};
use crate::event::Event;

/// Every event of the batch with its exact bytes, or the first fault.
pub(super) fn read(text: &str, by: Rules) -> Result<Vec<Event>, DecodeError> {
    let items: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|fault| DecodeError::syntax(&fault))?;
    if items.len() > MAX_BATCH {
        return Err(DecodeError::body("has more than 1000 events"));
    }
    // Copied, not sliced: a slice would hold the whole batch for as long as one of its events.
    let read =
        |item: &RawValue| structured::read(Bytes::copy_from_slice(item.get().as_bytes()), by);
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| read(item).map_err(|fault| fault.in_batch(index)))
        .collect()
}
