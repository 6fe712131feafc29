//! What stands in the store, read at start and by a verification: one walk over it for both.
//!
//! A start checks the checksum of every value that it needs, and stops at the first fault. Of a large
//! log it reads only the end, behind the last run of ids; damage before that is found when it is
//! read. A verification reads everything, and collects the faults.

mod contents;
mod entries;
mod log;

use std::collections::BTreeSet;

pub(super) use self::contents::Contents;
use super::{
    codec::{
        Value,
        values::{DedupKey, LogBounds},
    },
    dedup::{Dedup, id_set::IdSet},
    keys,
    options::Options,
};
use crate::store::{Error, View, codec::Malformed};

/// A store as it was opened.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) dedup: Dedup,
    /// The value to write, if the store is a new one.
    pub(super) new_key: Option<Vec<u8>>,
}

/// Reads it; of a log with more packed bytes than `read_whole` only the end.
pub(super) fn load(view: &View, options: &Options, read_whole: u64) -> Result<Loaded, Error> {
    let depth = Depth::Start { read_whole, dedup_max: options.dedup_max };
    let Survey { key, contents, mut dedup, .. } = walk(view.clone(), depth)?;
    let mut new_key = None;
    if key.is_none() {
        let key = random_key()?;
        new_key = Some(key.encode());
        dedup.set_key(&key);
    }
    Ok(Loaded { contents, dedup, new_key })
}

/// Reads the store, and judges each entry and all together.
pub(super) fn walk(view: View, depth: Depth) -> Result<Survey, Error> {
    let mut survey = Survey::new(view, depth);
    survey.notes()?;
    survey.cursors()?;
    survey.runs()?;
    survey.log()?;
    survey.beside_the_log()?;
    if depth == Depth::All {
        survey.all_entries()?;
    }
    Ok(survey)
}

/// A new dedup key.
pub(super) fn random_key() -> Result<DedupKey, Error> {
    let mut key = DedupKey::default();
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::other("no random numbers"))?;
    Ok(key)
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What a start needs; a log is read whole if it has at most `read_whole` packed bytes. The first
    /// fault ends the walk.
    Start { read_whole: u64, dedup_max: usize },
    /// Everything, and all faults; only another format ends the walk.
    All,
}

/// What a walk finds.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) view: View,
    depth: Depth,
    /// What is wrong, in words.
    pub(super) faults: Vec<String>,
    /// Entries that are not as they were written, so they are of no use.
    pub(super) bad: BTreeSet<Vec<u8>>,
    /// The dedup key; `None` in a new store, or if it is lost.
    pub(super) key: Option<DedupKey>,
    /// The bounds as they are noted; `None` in a new store, or if they are lost.
    pub(super) noted_bounds: Option<LogBounds>,
    pub(super) contents: Contents,
    pub(super) dedup: Dedup,
    /// Numbers that are in no record: first, and the one after the last.
    pub(super) holes: Vec<(u64, u64)>,
    /// Numbers whose events an earlier repair could not find.
    pub(super) lost: Vec<(u64, u64)>,
    /// The count that the high-water file has as well, or less of.
    pub(super) noted: u64,
    /// Events that were read, and of them those that are kept in parts.
    pub(super) events: u64,
    pub(super) large_events: u64,
    /// Ids of events are in runs up to here.
    packed_to: u64,
    /// The number after the last record that was read.
    end: u64,
}

impl Survey {
    fn new(view: View, depth: Depth) -> Self {
        Self {
            view,
            depth,
            faults: Vec::new(),
            bad: BTreeSet::new(),
            key: None,
            noted_bounds: None,
            contents: Contents::default(),
            dedup: Dedup::new(&DedupKey::default()),
            holes: Vec::new(),
            lost: Vec::new(),
            noted: 0,
            events: 0,
            large_events: 0,
            packed_to: 0,
            end: 0,
        }
    }

    /// Reads what the queue notes of itself.
    fn notes(&mut self) -> Result<(), Error> {
        self.key = self.note(keys::DEDUP, DedupKey::decode)?;
        match self.key {
            Some(key) => self.dedup.set_key(&key),
            None if self.view.range(keys::all(keys::EVENTS)).next().is_some() => {
                self.wrong("it has events but no dedup key".into())?;
            }
            None => {}
        }
        let most = match self.depth {
            Depth::Start { dedup_max, .. } => dedup_max,
            Depth::All => usize::MAX,
        };
        self.dedup.known = IdSet::of_up_to(most);
        self.dedup.hooks = self.note(keys::HOOKS, Value::decode)?.unwrap_or_default();
        self.noted_bounds = self.note(keys::LOG, LogBounds::decode)?;
        self.contents.bounds = self.noted_bounds.unwrap_or_default();
        self.dedup.runs.begin_at(self.contents.bounds.ids_from);
        self.contents.next_raw = self.note(keys::NEXT_RAW, u64::decode)?.unwrap_or(1);
        self.noted = self.note(keys::NOTED, u64::decode)?.unwrap_or(0);
        Ok(())
    }

    fn note<T>(
        &mut self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        match self.view.get(key)?.map(|value| decode(&value)).transpose() {
            Ok(note) => Ok(note),
            Err(error) => self.bad(key, error).map(|()| None),
        }
    }

    /// Everything is read, not only what a start needs.
    fn is_deep(&self) -> bool {
        self.depth == Depth::All
    }

    /// An entry is not as it was written.
    fn bad(&mut self, key: &[u8], error: Malformed) -> Result<(), Error> {
        if !self.is_deep() || error == Malformed::VERSION {
            return Err(Error::malformed(&keys::name(key), error));
        }
        self.bad.insert(key.to_vec());
        self.wrong(format!("{}: {error}", keys::name(key)))
    }

    /// Something else is wrong.
    fn wrong(&mut self, words: String) -> Result<(), Error> {
        if !self.is_deep() {
            return Err(Error::Damaged(words));
        }
        self.faults.push(words);
        Ok(())
    }
}

/// A range of events, up to but not with `end`, and its verb.
pub(super) fn numbers(first: u64, end: u64) -> String {
    let last = end.saturating_sub(1);
    if first == last {
        format!("event {first} is")
    } else {
        format!("events {first} to {last} are")
    }
}
