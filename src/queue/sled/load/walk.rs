//! A walk under way: how deep it goes, what it brings, whom it tells.

use bytes::Bytes;

use super::{
    contents::Contents,
    faults::{Fault, Faults},
};
use crate::{
    queue::sled::{
        codec::{
            Value,
            values::{DedupKey, LogBounds},
        },
        dedup::{Dedup, id_set::IdSet},
        keys,
    },
    store::{Error, View, codec::Malformed},
};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What a start needs; a log is read whole if it has at most `read_whole` packed bytes.
    Start { read_whole: u64, dedup_max: usize },
    /// Everything.
    All,
}

/// What a walk brought.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The dedup key; `None` in a new store, or if it is lost.
    pub(crate) key: Option<DedupKey>,
    pub(crate) contents: Contents,
    pub(crate) dedup: Dedup,
    /// Numbers that are in no record: first, and the one after the last.
    pub(crate) holes: Vec<(u64, u64)>,
    /// Numbers whose events an earlier repair could not find.
    pub(crate) lost: Vec<(u64, u64)>,
    /// The count that the high-water file has as well, or less of.
    pub(crate) noted: u64,
    /// Events that were read, and of them those that are kept in parts.
    pub(crate) events: u64,
    pub(crate) large_events: u64,
    /// Ids of events are in runs up to here.
    pub(super) packed_to: u64,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    pub(super) view: &'a View,
    pub(super) depth: Depth,
    pub(super) faults: &'a mut dyn Faults,
}

impl Walk<'_> {
    /// Everything is read, not only what a start needs.
    pub(super) fn is_deep(&self) -> bool {
        self.depth == Depth::All
    }

    /// An entry is of no use.
    pub(super) fn bad(&mut self, key: &[u8], error: Malformed) -> Result<(), Error> {
        self.faults.fault(Fault::Entry(key.to_vec(), error))
    }

    /// Something else is wrong.
    pub(super) fn wrong(&mut self, words: String) -> Result<(), Error> {
        self.faults.fault(Fault::Words(words))
    }

    /// What the queue notes of itself.
    pub(super) fn notes(&mut self) -> Result<Survey, Error> {
        let key = self.note(keys::DEDUP)?;
        if key.is_none() && self.view.range(keys::all(keys::EVENTS)).next().is_some() {
            self.wrong("it has events but no dedup key".into())?;
        }
        let mut dedup = Dedup::new(&key.unwrap_or_default());
        let most = match self.depth {
            Depth::Start { dedup_max, .. } => dedup_max,
            Depth::All => usize::MAX,
        };
        dedup.known = IdSet::of_up_to(most);
        dedup.hooks = self.note(keys::HOOKS)?.unwrap_or_default();
        let bounds: LogBounds = self.note(keys::LOG)?.unwrap_or_default();
        dedup.runs.begin_at(bounds.ids_from);
        let next_raw = self.note(keys::NEXT_RAW)?.unwrap_or(1);
        let noted = self.note(keys::NOTED)?.unwrap_or(0);
        if self.is_deep() {
            for entry in self.view.scan_prefix(keys::BOOKMARK) {
                let (key, value) = entry?;
                if let Err(error) = Bytes::decode(&value) {
                    self.bad(&key, error)?;
                }
            }
        }
        Ok(Survey {
            key,
            contents: Contents { bounds, next_raw, ..Contents::default() },
            dedup,
            holes: Vec::new(),
            lost: Vec::new(),
            noted,
            events: 0,
            large_events: 0,
            packed_to: bounds.ids_from.min(bounds.oldest),
        })
    }

    fn note<T: Value>(&mut self, key: &[u8]) -> Result<Option<T>, Error> {
        match self.view.get(key)?.map(|value| T::decode(&value)).transpose() {
            Ok(note) => Ok(note),
            Err(error) => {
                self.bad(key, error)?;
                Ok(None)
            }
        }
    }
}

/// A range of events, up to but not with `end`, and its verb.
pub(crate) fn numbers(first: u64, end: u64) -> String {
    let last = end.saturating_sub(1);
    if first == last {
        format!("event {first} is")
    } else {
        format!("events {first} to {last} are")
    }
}
