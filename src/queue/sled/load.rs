//! What stands on disk, read at start: places, waiting retries, dead letters. The log and its ids
//! are [`super::log`]'s.
//!
//! The checksum of every value that is read is looked at.

use std::{collections::BTreeMap, ops::Range};

use sled::IVec;

use super::{
    OpenError, Options,
    database::Db,
    dedup::Dedup,
    entry::{Cursor, Identity, decided_at, decode_hooks, decode_number},
    keys,
    long::{self, size},
    reader::ReadError,
    wire::{Get, Kind, Malformed, Stub},
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{DeadLetterId, Seq},
};

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) identity: Identity,
    pub(super) oldest: u64,
    pub(super) next: u64,
    pub(super) next_raw: u64,
    pub(super) live_bytes: u64,
    pub(super) dedup: Dedup,
    /// Records of ids that have left the window.
    pub(super) expired: Vec<u64>,
    pub(super) cursors: BTreeMap<HandlerName, Cursor>,
    /// Handler, due time, number, bytes.
    pub(super) retries: Vec<(HandlerName, u64, u64, u64)>,
    /// Id, when it was buried, bytes.
    pub(super) dead: Vec<(DeadLetterId, Timestamp, u64)>,
}

/// Reads it; of a log with more packed bytes than `read_whole` only the end.
pub(super) fn load(
    db: &Db,
    options: &Options,
    now: Timestamp,
    read_whole: u64,
) -> Result<Loaded, OpenError> {
    let identity = identity(db)?;
    let dedup = Dedup::new(&identity.key);
    let mut loaded = Loaded {
        identity,
        oldest: 0,
        next: 1,
        next_raw: number(db, keys::NEXT_RAW)?,
        live_bytes: 0,
        dedup,
        expired: Vec::new(),
        cursors: BTreeMap::new(),
        retries: Vec::new(),
        dead: Vec::new(),
    };
    if let Some(value) = db.get(keys::HOOKS)? {
        loaded.dedup.hooks = decode_hooks(&value).map_err(|e| damaged(keys::HOOKS, e))?;
    }
    loaded.places(db)?;
    loaded.log(db, options, now, read_whole)?;
    loaded.nothing_is_settled_that_is_missing()?;
    loaded.waiting(db)?;
    loaded.buried(db)?;
    Ok(loaded)
}

pub(super) fn number(db: &Db, key: &[u8]) -> Result<u64, OpenError> {
    db.get(key)?.map_or(Ok(1), |value| decode_number(&value)).map_err(|e| damaged(key, e))
}

pub(super) fn damaged(key: &[u8], error: Malformed) -> OpenError {
    OpenError::damaged(&key.escape_ascii().to_string(), error)
}

/// The store's identity; a new store gets one.
pub(super) fn identity(db: &Db) -> Result<Identity, OpenError> {
    if let Some(value) = db.get(keys::STORE)? {
        return Identity::decode(&value).map_err(|e| damaged(keys::STORE, e));
    }
    if db.range(keys::all(keys::EVENTS)).next().is_some() {
        return Err(OpenError::Damaged("it has events but no identity".into()));
    }
    let identity = Identity::new()?;
    db.insert(keys::STORE, identity.encode())?;
    db.flush()?;
    Ok(identity)
}

/// The parts of a long value are there and whole.
pub(super) fn with_its_parts(
    db: &Db,
    kind: Kind,
    key: &[u8],
    value: &[u8],
) -> Result<(), OpenError> {
    if Stub::of(value).is_none() {
        return Ok(());
    }
    let whole = long::whole(db, key, value).map_err(|error| match error {
        ReadError::Sled(error) => error.into(),
        ReadError::Damaged(error) | ReadError::Entry(_, error) => damaged(key, error),
    })?;
    Get::open(kind, &whole.unwrap_or_default()).map_err(|e| damaged(key, e))?;
    db.pump(key).map_err(Into::into)
}

/// Entries from the last, with sled's memory held down as it goes.
pub(super) fn newest_first(
    db: &Db,
    range: Range<Vec<u8>>,
) -> impl Iterator<Item = Result<(IVec, IVec), OpenError>> + use<> {
    let pumped = db.clone();
    db.range(range).rev().enumerate().map(move |(index, entry)| {
        let entry = entry?;
        if index % 8 == 7 {
            pumped.pump(&entry.0)?;
        }
        Ok(entry)
    })
}

impl Loaded {
    fn places(&mut self, db: &Db) -> Result<(), OpenError> {
        for entry in newest_first(db, keys::all(keys::CURSORS)) {
            let (key, value) = entry?;
            let handler = keys::handler_of(&key).ok_or_else(|| unknown(&key))?;
            let cursor = Cursor::decode(&value).map_err(|e| damaged(&key, e))?;
            self.cursors.insert(handler, cursor);
        }
        Ok(())
    }

    /// A place beyond the end of the log says that the end was lost.
    fn nothing_is_settled_that_is_missing(&self) -> Result<(), OpenError> {
        match self.cursors.values().map(|cursor| cursor.window.low()).max() {
            Some(low) if low > self.next => {
                Err(OpenError::Damaged(format!("events {} to {low} are missing", self.next)))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn waiting(&mut self, db: &Db) -> Result<(), OpenError> {
        for entry in newest_first(db, keys::all(keys::RETRIES)) {
            let (key, value) = entry?;
            let (due, handler, seq) = keys::retry_of(&key).ok_or_else(|| unknown(&key))?;
            decided_at(Kind::Retry, &value).map_err(|e| damaged(&key, e))?;
            with_its_parts(db, Kind::Retry, &key, &value)?;
            self.live_bytes += size(&key, &value);
            self.retries.push((handler, due, seq, size(&key, &value)));
        }
        Ok(())
    }

    fn buried(&mut self, db: &Db) -> Result<(), OpenError> {
        for entry in newest_first(db, keys::all(keys::DEAD)) {
            let (key, value) = entry?;
            let (handler, seq) = keys::dead_of(&key).ok_or_else(|| unknown(&key))?;
            let at = decided_at(Kind::Dead, &value).map_err(|e| damaged(&key, e))?;
            with_its_parts(db, Kind::Dead, &key, &value)?;
            self.bury(DeadLetterId::Delivery(handler, Seq(seq)), at, size(&key, &value));
        }
        for entry in newest_first(db, keys::all(keys::RAW)) {
            let (key, value) = entry?;
            let number = keys::number_of(&key).ok_or_else(|| unknown(&key))?;
            let at = decided_at(Kind::Raw, &value).map_err(|e| damaged(&key, e))?;
            with_its_parts(db, Kind::Raw, &key, &value)?;
            self.next_raw = self.next_raw.max(number.saturating_add(1));
            self.bury(DeadLetterId::Raw(number), at, size(&key, &value));
        }
        Ok(())
    }

    fn bury(&mut self, id: DeadLetterId, at: Timestamp, bytes: u64) {
        self.live_bytes += bytes;
        self.dead.push((id, at, bytes));
    }
}

fn unknown(key: &[u8]) -> OpenError {
    OpenError::Damaged(format!("a key is none of ours: {}", key.escape_ascii()))
}
