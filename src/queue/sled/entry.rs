//! The values beside the log: a handler's place, waiting retries, dead letters, the store's own.

use std::{collections::BTreeSet, io};

use bytes::Bytes;

use super::{
    record::{MAX_WORDS, get_event, get_names, put_event, put_names},
    window::Window,
    wire::{Get, Kind, Malformed, Put},
};
use crate::{
    clock::Timestamp,
    name::HookName,
    queue::{Failure, RawPush, Seq, StoredEvent},
};

/// A handler's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What it has settled.
    pub(super) window: Window,
    /// When it was last known to be configured.
    pub(super) seen: Timestamp,
    /// It gets nothing.
    pub(super) paused: bool,
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(Kind::Cursor);
        put.u64(self.seen.as_millis());
        self.window.put(&mut put);
        if self.paused {
            put.u32(1);
        }
        put.seal()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Cursor, value)?;
        let seen = Timestamp::from_millis(get.u64()?);
        let window = Window::get(&mut get)?;
        // Only a paused one's has it, so that those of the others are as they always were.
        let paused = !get.is_empty() && get.u32()? == 1;
        get.end()?;
        Ok(Self { window, seen, paused })
    }
}

/// A delivery that was tried, with its own copy of the event: it waits, or it is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    /// When that was decided.
    pub(super) at: Timestamp,
    /// So often.
    pub(super) attempts: u32,
    /// When the time that the handler has for it began.
    pub(super) since: Timestamp,
    /// Why the last attempt failed.
    pub(super) failure: Failure,
    /// What it is.
    pub(super) stored: StoredEvent,
}

impl Tried {
    pub(super) fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut put = Put::new(kind);
        put.u64(self.at.as_millis()).u32(self.attempts).u64(self.since.as_millis());
        put_failure(&mut put, &self.failure);
        put.u64(self.stored.seq.0).u64(self.stored.received.as_millis());
        put_event(&mut put, &self.stored);
        put.seal()
    }

    pub(super) fn decode(kind: Kind, value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(kind, value)?;
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
pub(super) struct Undecodable {
    /// When it came.
    pub(super) at: Timestamp,
    /// What is wrong with it.
    pub(super) failure: Failure,
    /// What it is.
    pub(super) push: RawPush,
}

impl Undecodable {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(Kind::Raw);
        put.u64(self.at.as_millis());
        put_failure(&mut put, &self.failure);
        put.bytes(self.push.hook.as_str().as_bytes());
        put.bytes(self.push.media_type.as_bytes()).bytes(&self.push.body);
        put.seal()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Raw, value)?;
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
pub(super) fn decided_at(kind: Kind, value: &[u8]) -> Result<Timestamp, Malformed> {
    Get::peek(kind, value)?.u64().map(Timestamp::from_millis)
}

/// What makes a store this store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Random; also stands in the high-water file.
    pub(super) store: [u8; 16],
    /// Key of the dedup hash, random, so that no sender can make ids collide.
    pub(super) key: [u8; 32],
}

impl Identity {
    /// Of a new store.
    pub(super) fn new() -> io::Result<Self> {
        let mut identity = Self { store: [0; 16], key: [0; 32] };
        aws_lc_rs::rand::fill(&mut identity.store)
            .and_then(|()| aws_lc_rs::rand::fill(&mut identity.key))
            .map_err(|_| io::Error::other("no random numbers"))?;
        Ok(identity)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(Kind::Meta);
        put.raw(&self.store).raw(&self.key);
        put.seal()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Meta, value)?;
        let identity = Self { store: get.array()?, key: get.array()? };
        get.end()?;
        Ok(identity)
    }
}

/// A number of the store's own.
pub(super) fn encode_number(number: u64) -> Vec<u8> {
    let mut put = Put::new(Kind::Meta);
    put.u64(number);
    put.seal()
}

/// Reads one.
pub(super) fn decode_number(value: &[u8]) -> Result<u64, Malformed> {
    let mut get = Get::open(Kind::Meta, value)?;
    let number = get.u64()?;
    get.end()?;
    Ok(number)
}

/// Hooks that ids were made with.
pub(super) fn encode_hooks<'a>(hooks: impl Iterator<Item = &'a HookName>) -> Vec<u8> {
    let names: Vec<_> = hooks.cloned().collect();
    let mut put = Put::new(Kind::Meta);
    put_names(&mut put, &names);
    put.seal()
}

/// Reads them.
pub(super) fn decode_hooks(value: &[u8]) -> Result<BTreeSet<HookName>, Malformed> {
    let mut get = Get::open(Kind::Meta, value)?;
    let names = get_names(&mut get)?;
    get.end()?;
    Ok(names.into_iter().collect())
}

/// A bookmark's place.
pub(super) fn encode_place(place: &[u8]) -> Vec<u8> {
    let mut put = Put::new(Kind::Meta);
    put.bytes(place);
    put.seal()
}

/// Reads one.
pub(super) fn decode_place(value: &[u8]) -> Result<Bytes, Malformed> {
    let mut get = Get::open(Kind::Meta, value)?;
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

fn put_failure(put: &mut Put, failure: &Failure) {
    put.bytes(clip(&failure.reason).as_bytes());
    put.u32(u32::from(failure.answer.is_some()));
    put.bytes(clip(failure.answer.as_deref().unwrap_or_default()).as_bytes());
}

fn get_failure(get: &mut Get<'_>) -> Result<Failure, Malformed> {
    let reason = get.text()?.to_owned();
    let some = get.u32()? == 1;
    let answer = get.text()?.to_owned();
    Ok(Failure { reason, answer: some.then_some(answer) })
}
