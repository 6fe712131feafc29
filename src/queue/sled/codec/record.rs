//! The record of a group: events that were stored together, packed, with the ids that they brought.
//!
//! Owns the layout of `e|` values, of the ids in `d|` values, and of one event within any value.
//! Every event of a group was stored at the same moment, so the time is the group's.

use bytes::Bytes;

use super::{GAP, GROUP};
use crate::{
    clock::Timestamp,
    event::{Event, Origin},
    name::HookName,
    queue::{Seq, StoredEvent, sled::keys},
    store::{
        chunked::MAX_VALUE,
        codec::{Decoder, Encoder, FRAME, Kind, Malformed},
    },
};

/// An id in the dedup window: 128 bits of a keyed hash.
pub(crate) type Id = [u64; 2];

/// Bytes up to which events are stored together; a larger event is alone. sled keeps 256 leaves of
/// up to sixteen records in memory, however small its cache is; with sled's counts a record fits
/// into 8 KiB there.
const MAX_GROUP: usize = 8 * 1024 - 64;

/// Frame, first, count, time, and the count of ids.
const HEAD: usize = FRAME + 8 + 4 + 8 + 4;

/// What is wrong with a record that is not there.
pub(crate) const MISSING: Malformed = Malformed("it is missing");

/// The bytes of one id.
pub(crate) const ID: usize = 16;

/// The most that a failure's words take beside an event.
pub(crate) const MAX_WORDS: usize = 4 * 1024;

/// The largest event, as [`encode_event`] makes it: fits with its ids, and with a failure's words.
pub(crate) const MAX_EVENT: usize = MAX_VALUE - HEAD - 2 * ID - MAX_WORDS;

/// What is known of a group without reading its events.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    pub(crate) fn put(&self, kind: Kind, beside: usize) -> Encoder {
        let mut put = Encoder::with_capacity(kind, HEAD + self.ids.len() * ID + beside);
        put.u64(self.first).u32(self.count).u64(self.received.as_millis());
        put.u32(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        for [high, low] in &self.ids {
            put.u64(*high).u64(*low);
        }
        put
    }

    pub(crate) fn get(get: &mut Decoder<'_>) -> Result<Self, Malformed> {
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
    pub(crate) fn encode_gap(&self) -> Vec<u8> {
        self.put(GAP, 0).seal()
    }

    /// The same of the value under this key, which must be its own.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        Self::decode(value)?.checked(key)
    }

    /// Whether it stands under its own key.
    pub(crate) fn checked(self, key: &[u8]) -> Result<Self, Malformed> {
        let right = keys::number_of(key) == Some(self.first) && self.count > 0;
        if right { Ok(self) } else { Err(Malformed("it is another record than its key says")) }
    }

    /// Reads the head of a value under `e|`, whose checksum covers its events, too.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        if is_gap(value) {
            return Self::get(&mut Decoder::open(GAP, value)?);
        }
        Self::get(&mut Decoder::peek(GROUP, value)?)
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

    /// What it holds, and the value under `e|`.
    pub(crate) fn seal(self) -> (Head, Vec<u8>) {
        let mut put = self.head.put(GROUP, self.events.len());
        put.raw(&self.events);
        (self.head, put.seal())
    }
}

/// Whether a value under `e|` stands for events that were lost.
fn is_gap(value: &[u8]) -> bool {
    value.get(1) == Some(&GAP.byte())
}

/// Everything in a value under `e|`; no events if they were lost.
pub(crate) fn decode_group(value: &[u8]) -> Result<(Head, Vec<StoredEvent>), Malformed> {
    if is_gap(value) {
        return Head::decode(value).map(|head| (head, Vec::new()));
    }
    let mut get = Decoder::open(GROUP, value)?;
    let head = Head::get(&mut get)?;
    let mut events = Vec::new();
    for seq in head.first..head.end() {
        events.push(get_event(&mut get, Seq(seq), head.received)?);
    }
    get.end()?;
    Ok((head, events))
}

/// One event as it stands in a group; number and time are the group's.
pub(crate) fn encode_event(stored: &StoredEvent) -> Vec<u8> {
    let mut put = Encoder::piece(stored.event.json().len() + 128);
    put_event(&mut put, stored);
    put.into_piece()
}

/// Adds an event to a value.
pub(crate) fn put_event(put: &mut Encoder, stored: &StoredEvent) {
    put.bytes(stored.origin.to_string().as_bytes());
    put_names(put, &stored.from);
    put_names(put, &stored.already);
    put.bytes(stored.event.json());
}

/// Reads an event out of a value.
pub(crate) fn get_event(
    get: &mut Decoder<'_>,
    seq: Seq,
    received: Timestamp,
) -> Result<StoredEvent, Malformed> {
    let origin: Origin = get.text()?.parse().map_err(|_| Malformed("an origin"))?;
    let (from, already) = (get_names(get)?, get_names(get)?);
    let event = Event::from_json(Bytes::copy_from_slice(get.bytes()?))
        .map_err(|_| Malformed("an event is no JSON"))?;
    Ok(StoredEvent { seq, received, origin, from, already, event })
}

pub(crate) fn put_names(put: &mut Encoder, names: &[HookName]) {
    put.u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
    for name in names {
        put.bytes(name.as_str().as_bytes());
    }
}

pub(crate) fn get_names(get: &mut Decoder<'_>) -> Result<Vec<HookName>, Malformed> {
    let count = get.count(4)?;
    (0..count).map(|_| get.text()?.parse().map_err(|_| Malformed("a hook's name"))).collect()
}
