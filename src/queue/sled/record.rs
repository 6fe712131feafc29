//! The record of a commit group: its events, packed, with the ids that they brought.
//!
//! Owns the layout of `e|` and `d|` values and of one event within any value. Every event of a
//! group was stored at the same moment, so the time is the group's.

use bytes::Bytes;

use super::{
    keys,
    long::MAX_VALUE,
    segments,
    wire::{FRAME, Get, Kind, Malformed, Put},
};
use crate::{
    clock::Timestamp,
    event::{Event, Origin},
    name::HookName,
    queue::{Seq, StoredEvent},
};

/// An id in the dedup window: 128 bits of a keyed hash.
pub(super) type Id = [u64; 2];

/// Largest entry that is written; a larger value is kept in parts ([`super::long`]).
pub(super) const MAX_RECORD: usize = 20 * 1024;
const _: () = assert!(MAX_RECORD < segments::largest_entry(segments::SEGMENT_SIZE));

/// Events are stored together up to so many bytes; a larger one is alone. sled keeps 256 leaves of
/// up to sixteen records in memory, however small its cache is to be; with its counts a record is
/// to fit into 8 KiB there.
const MAX_GROUP: usize = 8 * 1024 - 64;

/// Frame, first, count, time, and the count of ids.
const HEAD: usize = FRAME + 8 + 4 + 8 + 4;

/// What is wrong with a record that is not there.
pub(super) const MISSING: Malformed = Malformed("it is missing");

/// The bytes of one id.
pub(super) const ID: usize = 16;

/// The most that a failure's words take beside an event.
pub(super) const MAX_WORDS: usize = 4 * 1024;

/// The largest event, as [`encode_event`] makes it: fits with its ids, and with a failure's words.
pub(super) const MAX_EVENT: usize = MAX_VALUE - HEAD - 2 * ID - MAX_WORDS;

/// What is known of a group without reading its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of its first event.
    pub(super) first: u64,
    /// So many events follow each other.
    pub(super) count: u32,
    /// When they were stored.
    pub(super) received: Timestamp,
    /// Ids that were new with them.
    pub(super) ids: Vec<Id>,
}

impl Head {
    /// The number after its last event.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    fn put(&self, kind: Kind, beside: usize) -> Put {
        let mut put = Put::with_room(kind, HEAD + self.ids.len() * ID + beside);
        put.u64(self.first).u32(self.count).u64(self.received.as_millis());
        put.u32(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        for [high, low] in &self.ids {
            put.u64(*high).u64(*low);
        }
        put
    }

    pub(super) fn get(get: &mut Get<'_>) -> Result<Self, Malformed> {
        let (first, count) = (get.u64()?, get.u32()?);
        let received = Timestamp::from_millis(get.u64()?);
        let ids = get.count(ID)?;
        let ids = (0..ids).map(|_| Ok([get.u64()?, get.u64()?])).collect::<Result<_, _>>()?;
        if first.checked_add(u64::from(count)).is_none() {
            return Err(Malformed("its numbers run over"));
        }
        Ok(Self { first, count, received, ids })
    }

    /// The value under `e|` for events that were lost, so that the log has no hole.
    pub(super) fn encode_gap(&self) -> Vec<u8> {
        self.put(Kind::Gap, 0).seal()
    }

    /// The value under `d|`, once the events are gone.
    pub(super) fn encode_ids(&self) -> Vec<u8> {
        self.put(Kind::Ids, 0).seal()
    }

    /// Reads a value under `d|`.
    pub(super) fn decode_ids(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Ids, value)?;
        let head = Self::get(&mut get)?;
        get.end()?;
        Ok(head)
    }

    /// The same of the value under this key, which must be its own.
    pub(super) fn of(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        Self::decode(value)?.checked(key)
    }

    /// Whether it stands under its own key.
    pub(super) fn checked(self, key: &[u8]) -> Result<Self, Malformed> {
        let right = keys::number_of(key) == Some(self.first) && self.count > 0;
        if right { Ok(self) } else { Err(Malformed("it is another record than its key says")) }
    }

    /// Reads the head of a value under `e|`, whose checksum covers its events, too.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        if is_gap(value) {
            return Self::get(&mut Get::open(Kind::Gap, value)?);
        }
        Self::get(&mut Get::peek(Kind::Group, value)?)
    }
}

/// A group's record being filled.
#[derive(Debug)]
pub(super) struct Packing {
    head: Head,
    events: Vec<u8>,
}

impl Packing {
    /// An empty one, whose first event will have this number.
    pub(super) fn new(first: u64, received: Timestamp) -> Self {
        Self { head: Head { first, count: 0, received, ids: Vec::new() }, events: Vec::new() }
    }

    /// Whether an event of so many bytes, with its ids, fits in as well.
    pub(super) fn has_room(&self, event: &[u8], ids: &[Id]) -> bool {
        let ids = (self.head.ids.len() + ids.len()) * ID;
        self.head.count == 0 || HEAD + ids + self.events.len() + event.len() <= MAX_GROUP
    }

    /// Takes it in.
    pub(super) fn push(&mut self, event: &[u8], ids: &[Id]) {
        self.head.count += 1;
        self.head.ids.extend_from_slice(ids);
        self.events.extend_from_slice(event);
    }

    /// With these ids as well.
    pub(super) fn with_ids(mut self, ids: Vec<Id>) -> Self {
        self.head.ids.extend(ids);
        self
    }

    /// What it holds, and the value under `e|`.
    pub(super) fn seal(self) -> (Head, Vec<u8>) {
        let mut put = self.head.put(Kind::Group, self.events.len());
        put.raw(&self.events);
        (self.head, put.seal())
    }
}

/// Whether a value under `e|` stands for events that were lost.
fn is_gap(value: &[u8]) -> bool {
    value.get(1) == Some(&Kind::Gap.byte())
}

/// Everything in a value under `e|`; no events if they were lost.
pub(super) fn decode_group(value: &[u8]) -> Result<(Head, Vec<StoredEvent>), Malformed> {
    if is_gap(value) {
        return Head::decode(value).map(|head| (head, Vec::new()));
    }
    let mut get = Get::open(Kind::Group, value)?;
    let head = Head::get(&mut get)?;
    let mut events = Vec::new();
    for seq in head.first..head.end() {
        events.push(get_event(&mut get, Seq(seq), head.received)?);
    }
    get.end()?;
    Ok((head, events))
}

/// One event as it stands in a group; number and time are the group's.
pub(super) fn encode_event(stored: &StoredEvent) -> Vec<u8> {
    let mut put = Put::bare(stored.event.json().len() + 128);
    put_event(&mut put, stored);
    put.into_bare()
}

/// Adds an event to a value.
pub(super) fn put_event(put: &mut Put, stored: &StoredEvent) {
    put.bytes(stored.origin.to_string().as_bytes());
    put_names(put, &stored.from);
    put_names(put, &stored.already);
    put.bytes(stored.event.json());
}

/// Reads an event out of a value.
pub(super) fn get_event(
    get: &mut Get<'_>,
    seq: Seq,
    received: Timestamp,
) -> Result<StoredEvent, Malformed> {
    let origin: Origin = get.text()?.parse().map_err(|_| Malformed("an origin"))?;
    let (from, already) = (get_names(get)?, get_names(get)?);
    let event = Event::from_json(Bytes::copy_from_slice(get.bytes()?))
        .map_err(|_| Malformed("an event is no JSON"))?;
    Ok(StoredEvent { seq, received, origin, from, already, event })
}

pub(super) fn put_names(put: &mut Put, names: &[HookName]) {
    put.u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
    for name in names {
        put.bytes(name.as_str().as_bytes());
    }
}

pub(super) fn get_names(get: &mut Get<'_>) -> Result<Vec<HookName>, Malformed> {
    let count = get.count(4)?;
    (0..count).map(|_| get.text()?.parse().map_err(|_| Malformed("a hook's name"))).collect()
}
