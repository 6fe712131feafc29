//! The record of a group: events that were stored together, packed, with the ids that they brought.
//!
//! Owns the layout of `e|` values, and of one event within any value. Every event of a group was
//! stored at the same moment, so the time is the group's.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::GROUP;
use crate::{
    clock::Timestamp,
    event::{Event, Origin},
    name::HookName,
    queue::{Seq, StoredEvent, sled::keys},
    store::{
        chunked::MAX_VALUE,
        codec::{self, FRAME, Malformed},
    },
};

/// An id in the dedup window: 128 bits of a keyed hash.
pub(crate) type Id = [u8; ID];
const ID: usize = 16;

/// Bytes up to which events are stored together; a larger event is alone. sled keeps 256 leaves of
/// up to sixteen records in memory, however small its cache is; with sled's counts a record fits
/// into 8 KiB there.
const MAX_GROUP: usize = 8 * 1024 - 64;

/// Frame, first, count, time, and the count of ids, at most.
const HEAD: usize = FRAME + 10 + 5 + 10 + 5;

/// The fault of a record that is not there.
pub(crate) const MISSING: Malformed = Malformed("it is missing");

/// The most that a failure's words take beside an event.
pub(crate) const MAX_WORDS: usize = 4 * 1024;

/// The largest event, as [`encode_event`] makes it: fits with its ids, and with a failure's words.
pub(crate) const MAX_EVENT: usize = MAX_VALUE - HEAD - 2 * ID - MAX_WORDS;

/// A group without its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Number of its first event.
    pub(crate) first: u64,
    /// The number of its events, which follow each other.
    pub(crate) count: u32,
    /// When they were stored.
    pub(crate) received: Timestamp,
    /// Ids that were new with them.
    pub(crate) ids: Vec<Id>,
}

impl Head {
    /// The number after its last event.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// The value under `e|` for events that were lost, so that the log has no hole.
    pub(crate) fn encode_gap(&self) -> Vec<u8> {
        codec::encode(GROUP, &(self, Bytes::new(&[])))
    }

    /// Reads the head of the value under this key, which must be its own.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        Self::decode(value)?.checked(key)
    }

    /// Whether it stands under its own key.
    pub(crate) fn checked(self, key: &[u8]) -> Result<Self, Malformed> {
        let runs_over = self.first.checked_add(self.count.into()).is_none();
        let right = keys::number_of(key) == Some(self.first) && self.count > 0 && !runs_over;
        if right { Ok(self) } else { Err(Malformed("it is another record than its key says")) }
    }

    /// Reads the head of a value under `e|`, whose checksum covers its events, too.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        codec::take(&mut codec::open_beginning(GROUP, value)?)
    }
}

/// A group's record being filled.
#[derive(Debug)]
pub(crate) struct Packing {
    head: Head,
    events: Vec<u8>,
}

impl Packing {
    /// An empty one, whose first event will have this number.
    pub(crate) fn new(first: u64, received: Timestamp) -> Self {
        Self { head: Head { first, count: 0, received, ids: Vec::new() }, events: Vec::new() }
    }

    /// Whether this event, with its ids, fits in as well.
    pub(crate) fn has_room(&self, event: &[u8], ids: &[Id]) -> bool {
        let ids = (self.head.ids.len() + ids.len()) * ID;
        self.head.count == 0 || HEAD + ids + self.events.len() + event.len() <= MAX_GROUP
    }

    /// Takes it in.
    pub(crate) fn push(&mut self, event: &[u8], ids: &[Id]) {
        self.head.count += 1;
        self.head.ids.extend_from_slice(ids);
        self.events.extend_from_slice(event);
    }

    /// With these ids as well.
    pub(crate) fn with_ids(mut self, ids: Vec<Id>) -> Self {
        self.head.ids.extend(ids);
        self
    }

    /// The head, and the value under `e|`.
    pub(crate) fn seal(self) -> (Head, Vec<u8>) {
        let value = codec::encode(GROUP, &(&self.head, Bytes::new(&self.events)));
        (self.head, value)
    }
}

/// Everything in a value under `e|`; no events if they were lost.
pub(crate) fn decode_group(value: &[u8]) -> Result<(Head, Vec<StoredEvent>), Malformed> {
    let (head, events): (Head, &Bytes) = codec::decode(GROUP, value)?;
    let (mut rest, mut events): (&[u8], _) = (events, Vec::new());
    if rest.is_empty() {
        return Ok((head, events));
    }
    for seq in head.first..head.end() {
        events.push(stored_event(codec::take(&mut rest)?, Seq(seq), head.received)?);
    }
    if rest.is_empty() { Ok((head, events)) } else { Err(Malformed("it has more events")) }
}

/// One event as it stands in a group; number and time are the group's.
pub(crate) fn encode_event(stored: &StoredEvent) -> Vec<u8> {
    codec::put(Vec::new(), &fields(stored))
}

/// An event's fields in any value: origin, `from` names, `already` names, JSON.
pub(super) fn fields(stored: &StoredEvent) -> impl Serialize {
    let StoredEvent { origin, from, already, event, .. } = stored;
    (origin.to_string(), from, already, Bytes::new(event.json()))
}

/// The same as they are read.
pub(super) type Fields<'a> = (&'a str, Vec<HookName>, Vec<HookName>, bytes::Bytes);

/// An event that has these fields.
pub(super) fn stored_event(
    (origin, from, already, json): Fields<'_>,
    seq: Seq,
    received: Timestamp,
) -> Result<StoredEvent, Malformed> {
    let origin: Origin = origin.parse().map_err(|_| Malformed("an origin"))?;
    let event = Event::from_json(json).map_err(|_| Malformed("an event is no JSON"))?;
    Ok(StoredEvent { seq, received, origin, from, already, event })
}
