//! The values beside the log: cursors, waiting retries, dead letters, what the queue notes of itself.
//!
//! Owns their layout. What they mean belongs to whoever keeps them.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    CURSOR, KEY, META, RAW, Value,
    record::{MAX_WORDS, fields, stored_event},
};
use crate::{
    clock::Timestamp,
    name::HookName,
    queue::{Failure, RawPush, Seq, StoredEvent, sled::ack_window::AckWindow},
    store::codec::{self, Kind, Malformed},
};

/// A handler's cursor: the events of the log that it has settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// When it was last known to be configured.
    pub(crate) seen: Timestamp,
    /// It gets nothing.
    pub(crate) paused: bool,
    /// The settled events.
    pub(crate) window: AckWindow,
}

impl Value for Cursor {
    const KIND: Kind = CURSOR;
}

/// A delivery that was tried, with its own copy of the event: it waits, or it is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    /// When that was decided.
    pub(crate) at: Timestamp,
    /// The number of attempts.
    pub(crate) attempts: u32,
    /// When the time that the handler has for it began.
    pub(crate) since: Timestamp,
    /// Why the last attempt failed.
    pub(crate) failure: Failure,
    /// The event.
    pub(crate) stored: StoredEvent,
}

impl Tried {
    /// The value of a retry or a dead letter.
    pub(crate) fn encode(&self, kind: Kind) -> Vec<u8> {
        let Self { at, attempts, since, failure, stored } = self;
        let (number, received) = (stored.seq.0, stored.received);
        let delivery = (at, attempts, since, clipped(failure), number, received, fields(stored));
        codec::encode(kind, &delivery)
    }

    /// Reads it.
    pub(crate) fn decode(kind: Kind, value: &[u8]) -> Result<Self, Malformed> {
        let (at, attempts, since, words, number, received, fields) = codec::decode(kind, value)?;
        let stored = stored_event(fields, Seq(number), received)?;
        Ok(Self { at, attempts, since, failure: failure(words), stored })
    }
}

/// An undecodable push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// When it came.
    pub(crate) at: Timestamp,
    /// What is wrong with it.
    pub(crate) failure: Failure,
    /// The push.
    pub(crate) push: RawPush,
}

impl Undecodable {
    /// The value under `y|`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { at, failure, push: RawPush { hook, media_type, body } } = self;
        codec::encode(RAW, &(at, clipped(failure), hook, media_type, body))
    }

    /// Reads it.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let (at, words, hook, media_type, body) = codec::decode(RAW, value)?;
        Ok(Self { at, failure: failure(words), push: RawPush { hook, media_type, body } })
    }
}

/// When a retry, dead letter or undecodable push (of this kind) was decided on.
pub(crate) fn decided_at(kind: Kind, value: &[u8]) -> Result<Timestamp, Malformed> {
    codec::take(&mut codec::open_beginning(kind, value)?)
}

/// Key of the dedup hash: random, so that no sender can make ids collide.
pub(crate) type DedupKey = [u8; 32];

impl Value for DedupKey {
    const KIND: Kind = KEY;
}

/// What the queue notes of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

impl Value for LogBounds {
    const KIND: Kind = META;
}

/// A number of the queue's own.
impl Value for u64 {
    const KIND: Kind = META;
}

/// Hooks that ids were made with.
impl Value for BTreeSet<HookName> {
    const KIND: Kind = META;
}

/// A bookmark's place.
impl Value for Bytes {
    const KIND: Kind = META;
}

/// Reason and answer of a failure.
type Words = (String, Option<String>);

fn failure((reason, answer): Words) -> Failure {
    Failure { reason, answer }
}

/// The same to be written, each with half of the room for them.
fn clipped(failure: &Failure) -> (&str, Option<&str>) {
    (clip(&failure.reason), failure.answer.as_deref().map(clip))
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_WORDS / 2 - 64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
