//! The values beside the log: cursors, waiting retries, dead letters, what the queue notes of itself.
//!
//! Owns their layout. What they mean belongs to whoever keeps them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    CURSOR, KEY, META, RAW,
    record::{MAX_WORDS, get_event, get_names, put_event, put_names},
};
use crate::{
    clock::Timestamp,
    name::HookName,
    queue::{Failure, RawPush, Seq, StoredEvent, sled::ack_window::AckWindow},
    store::codec::{Decoder, Encoder, Kind, Malformed},
};

/// A handler's cursor: what it has settled of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// What it has settled.
    pub(crate) window: AckWindow,
    /// When it was last known to be configured.
    pub(crate) seen: Timestamp,
    /// It gets nothing.
    pub(crate) paused: bool,
}

impl Cursor {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut put = Encoder::new(CURSOR);
        put.u64(self.seen.as_millis());
        self.window.put(put.u32(u32::from(self.paused)));
        put.seal()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Decoder::open(CURSOR, value)?;
        let seen = Timestamp::from_millis(get.u64()?);
        let paused = get.u32()? == 1;
        let window = AckWindow::get(&mut get)?;
        get.end()?;
        Ok(Self { window, seen, paused })
    }
}

/// A delivery that was tried, with its own copy of the event: it waits, or it is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    /// When that was decided.
    pub(crate) at: Timestamp,
    /// So often.
    pub(crate) attempts: u32,
    /// When the time that the handler has for it began.
    pub(crate) since: Timestamp,
    /// Why the last attempt failed.
    pub(crate) failure: Failure,
    /// What it is.
    pub(crate) stored: StoredEvent,
}

impl Tried {
    pub(crate) fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut put = Encoder::new(kind);
        put.u64(self.at.as_millis()).u32(self.attempts).u64(self.since.as_millis());
        put_failure(&mut put, &self.failure);
        put.u64(self.stored.seq.0).u64(self.stored.received.as_millis());
        put_event(&mut put, &self.stored);
        put.seal()
    }

    pub(crate) fn decode(kind: Kind, value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Decoder::open(kind, value)?;
        let (at, attempts) = (Timestamp::from_millis(get.u64()?), get.u32()?);
        let since = Timestamp::from_millis(get.u64()?);
        let failure = get_failure(&mut get)?;
        let (seq, received) = (Seq(get.u64()?), Timestamp::from_millis(get.u64()?));
        let stored = get_event(&mut get, seq, received)?;
        get.end()?;
        Ok(Self { at, attempts, since, failure, stored })
    }
}

/// An undecodable push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// When it came.
    pub(crate) at: Timestamp,
    /// What is wrong with it.
    pub(crate) failure: Failure,
    /// What it is.
    pub(crate) push: RawPush,
}

impl Undecodable {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut put = Encoder::new(RAW);
        put.u64(self.at.as_millis());
        put_failure(&mut put, &self.failure);
        put.bytes(self.push.hook.as_str().as_bytes());
        put.bytes(self.push.media_type.as_bytes()).bytes(&self.push.body);
        put.seal()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Decoder::open(RAW, value)?;
        let at = Timestamp::from_millis(get.u64()?);
        let failure = get_failure(&mut get)?;
        let hook = get.text()?.parse().map_err(|_| Malformed("a hook's name"))?;
        let media_type = get.text()?.to_owned();
        let body = Bytes::copy_from_slice(get.bytes()?);
        get.end()?;
        Ok(Self { at, failure, push: RawPush { hook, media_type, body } })
    }
}

/// When a retry or dead letter (of this kind) was decided on.
pub(crate) fn decided_at(kind: Kind, value: &[u8]) -> Result<Timestamp, Malformed> {
    Decoder::peek(kind, value)?.u64().map(Timestamp::from_millis)
}

/// Key of the dedup hash: random, so that no sender can make ids collide.
pub(crate) type DedupKey = [u8; 32];

/// The dedup key.
pub(crate) fn encode_key(key: &DedupKey) -> Vec<u8> {
    let mut put = Encoder::new(KEY);
    put.raw(key);
    put.seal()
}

/// Reads it.
pub(crate) fn decode_key(value: &[u8]) -> Result<DedupKey, Malformed> {
    let mut get = Decoder::open(KEY, value)?;
    let key = get.array()?;
    get.end()?;
    Ok(key)
}

/// What the queue notes of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// The first number in the log, or that will be in it.
    pub(crate) oldest: u64,
    /// A number that no event has had; it counts when the log is empty.
    pub(crate) next: u64,
    /// Ids of events below have left the dedup window.
    pub(crate) ids_from: u64,
}

impl Default for LogBounds {
    /// Those of a new queue.
    fn default() -> Self {
        Self { oldest: 1, next: 1, ids_from: 1 }
    }
}

impl LogBounds {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut put = Encoder::new(META);
        put.u64(self.oldest).u64(self.next).u64(self.ids_from);
        put.seal()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Decoder::open(META, value)?;
        let bounds = Self { oldest: get.u64()?, next: get.u64()?, ids_from: get.u64()? };
        get.end()?;
        Ok(bounds)
    }
}

/// A number of the queue's own.
pub(crate) fn encode_number(number: u64) -> Vec<u8> {
    let mut put = Encoder::new(META);
    put.u64(number);
    put.seal()
}

/// Reads one.
pub(crate) fn decode_number(value: &[u8]) -> Result<u64, Malformed> {
    let mut get = Decoder::open(META, value)?;
    let number = get.u64()?;
    get.end()?;
    Ok(number)
}

/// Hooks that ids were made with.
pub(crate) fn encode_hooks<'a>(hooks: impl Iterator<Item = &'a HookName>) -> Vec<u8> {
    let names: Vec<_> = hooks.cloned().collect();
    let mut put = Encoder::new(META);
    put_names(&mut put, &names);
    put.seal()
}

/// Reads them.
pub(crate) fn decode_hooks(value: &[u8]) -> Result<BTreeSet<HookName>, Malformed> {
    let mut get = Decoder::open(META, value)?;
    let names = get_names(&mut get)?;
    get.end()?;
    Ok(names.into_iter().collect())
}

/// What a bookmark says.
pub(crate) fn encode_bookmark(place: &[u8]) -> Vec<u8> {
    let mut put = Encoder::new(META);
    put.bytes(place);
    put.seal()
}

/// Reads one.
pub(crate) fn decode_bookmark(value: &[u8]) -> Result<Bytes, Malformed> {
    let mut get = Decoder::open(META, value)?;
    let place = Bytes::copy_from_slice(get.bytes()?);
    get.end()?;
    Ok(place)
}

/// Half of the room for a failure's words each.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_WORDS / 2 - 64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn put_failure(put: &mut Encoder, failure: &Failure) {
    put.bytes(clip(&failure.reason).as_bytes());
    put.u32(u32::from(failure.answer.is_some()));
    put.bytes(clip(failure.answer.as_deref().unwrap_or_default()).as_bytes());
}

fn get_failure(get: &mut Decoder<'_>) -> Result<Failure, Malformed> {
    let reason = get.text()?.to_owned();
    let some = get.u32()? == 1;
    let answer = get.text()?.to_owned();
    Ok(Failure { reason, answer: some.then_some(answer) })
}
