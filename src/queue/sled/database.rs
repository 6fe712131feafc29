//! The database: one space of keys over three trees of sled, and what lies over them.
//!
//! Owns which key is in which tree, and when sled gets what is committed. For a change of one entry
//! sled writes its leaf of up to sixteen anew, sooner or later, so the large records of the log,
//! the ids, and the small things that change all the time are kept apart. What belongs together is
//! made whole by the journal.

mod ahead;
mod range;

use std::{
    convert::Infallible,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use sled::{
    Config, IVec, Transactional, Tree,
    transaction::{ConflictableTransactionError, TransactionError},
};

use self::{ahead::Ahead, range::Range};
use super::{entry::encode_number, keys, writer::Entries};

/// So many bytes sled is given before they are to be durable: the less, the shorter a commit waits
/// for the disk while sled writes.
const STEP: usize = 1024 * 1024;
/// After so many changes sled's memory is held down.
const PUMP: usize = 8;

/// The trees beside sled's default one, which has the records of the log and all parts.
const IDS: &[u8] = b"ids";
const STATE: &[u8] = b"state";
/// What the first stores had in the default tree as well.
const MOVED: &[u8] = &[keys::IDS, keys::CURSORS, keys::RETRIES, keys::DEAD, keys::RAW, b'm'];

/// The database. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Db {
    sled: sled::Db,
    log: Tree,
    ids: Tree,
    state: Tree,
    ahead: Arc<Ahead>,
}

impl Db {
    /// Opens it; what a first store had in one tree is sorted into three.
    pub(super) fn open(config: &Config) -> sled::Result<Self> {
        let sled = config.open()?;
        let (log, ids) = (Tree::clone(&sled), sled.open_tree(IDS)?);
        let (state, ahead) = (sled.open_tree(STATE)?, Arc::default());
        let db = Self { sled, log, ids, state, ahead };
        db.sort()?;
        Ok(db)
    }

    /// Cut short by a crash it is done again; nothing is changed before it has ended.
    fn sort(&self) -> sled::Result<()> {
        let first = |kind: &u8| self.log.range(keys::all(*kind)).next().transpose();
        for kind in MOVED {
            if first(kind)?.is_none() {
                continue;
            }
            for entry in self.log.range(keys::all(*kind)) {
                let (key, value) = entry?;
                self.insert(key, value)?;
            }
            self.flush()?;
            while let Some((key, _)) = first(kind)? {
                self.log.remove(key)?;
            }
        }
        self.flush()
    }

    fn tree(&self, key: &[u8]) -> &Tree {
        match Part::of(key) {
            Part::Log => &self.log,
            Part::Ids => &self.ids,
            Part::State => &self.state,
        }
    }

    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> sled::Result<Option<IVec>> {
        let key = key.as_ref();
        match self.ahead.get(key) {
            Some(change) => Ok(change.value()),
            None => self.tree(key).get(key),
        }
    }

    /// Entries of one kind: of the tree that the range begins in.
    pub(super) fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        let tree = match range.start_bound() {
            Bound::Included(key) | Bound::Excluded(key) => self.tree(key.as_ref()),
            Bound::Unbounded => &self.log,
        };
        let bounds = (range.start_bound(), range.end_bound());
        let own = |bound: Bound<&K>| bound.map(|key| IVec::from(key.as_ref()));
        Range::new(&self.ahead, tree, (own(bounds.0), own(bounds.1)))
    }

    /// Entries with this prefix, which is not empty.
    pub(super) fn scan_prefix(&self, prefix: &[u8]) -> Range {
        let mut end = prefix.to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.range(prefix.to_vec()..end)
    }

    /// Takes what the journal has: from now on it is there, and sled gets it later.
    pub(super) fn take(&self, entries: Entries) {
        self.ahead.take(entries);
    }

    /// What was taken so far is what sled gets next.
    pub(super) fn freeze(&self) {
        self.ahead.freeze();
    }

    /// Gives sled what was frozen, which is all that was committed before this half of the journal
    /// was begun, at least, and makes that durable. What is taken meanwhile stays.
    pub(super) fn hand_over(&self, generation: u64) -> sled::Result<()> {
        let changes = self.ahead.old().unwrap_or_default();
        let (mut count, mut bytes) = (0, 0);
        for (key, change) in &*changes {
            if self.ahead.is_changed_again(key) {
                continue;
            }
            let value = change.clone().value();
            count += 1;
            bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            self.change(key, value)?;
            if count % PUMP == 0 {
                self.pump(key)?;
            }
            if bytes >= STEP {
                self.flush()?;
                bytes = 0;
            }
        }
        // Behind all of it in sled's log: who finds the note finds the rest.
        self.note_journal(generation)?;
        self.flush()?;
        self.ahead.handed_over();
        Ok(())
    }

    /// Changes sled at once, when nothing lies over it.
    pub(super) fn apply(&self, entries: &Entries) -> sled::Result<()> {
        for (index, (key, value)) in entries.iter().enumerate() {
            self.change(key, value.as_deref().map(IVec::from))?;
            if index % PUMP == PUMP - 1 {
                self.pump(key)?;
            }
        }
        entries.last().map_or(Ok(()), |(key, _)| self.pump(key))
    }

    /// Notes in sled that it has all that was committed before this half of the journal was begun.
    pub(super) fn note_journal(&self, generation: u64) -> sled::Result<()> {
        self.insert(keys::JOURNAL, encode_number(generation))
    }

    /// Sets an entry of sled at once, when nothing lies over it.
    pub(super) fn insert(&self, key: impl AsRef<[u8]>, value: impl Into<IVec>) -> sled::Result<()> {
        self.change(key.as_ref(), Some(value.into()))
    }

    /// Removes an entry of sled at once, when nothing lies over it.
    #[cfg(test)]
    pub(super) fn remove(&self, key: impl AsRef<[u8]>) -> sled::Result<Option<IVec>> {
        self.tree(key.as_ref()).remove(key)
    }

    fn change(&self, key: &[u8], value: Option<IVec>) -> sled::Result<()> {
        let tree = self.tree(key);
        match value {
            Some(value) => tree.insert(key, value).map(drop),
            None => tree.remove(key).map(drop),
        }
    }

    /// Holds sled's memory down after a few entries were read or changed, this one the last.
    ///
    /// sled looks at the bound of its cache only when 64 accesses of a page of one of 256 kinds have
    /// piled up, so a scan alone would fill the memory. And what a thread has let go of is freed when
    /// it is 64 things, which can be whole leaves, unless it is asked for earlier.
    pub(super) fn pump(&self, key: &[u8]) -> sled::Result<()> {
        let tree = self.tree(key);
        for _ in 0..64 {
            tree.contains_key(key)?;
        }
        crossbeam_epoch::pin().flush();
        Ok(())
    }

    /// What sled has, tree by tree.
    pub(super) fn trees(&self) -> [&Tree; 3] {
        [&self.log, &self.ids, &self.state]
    }

    /// Sled has nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.trees().iter().all(|tree| tree.is_empty())
    }

    /// Makes durable what sled has.
    pub(super) fn flush(&self) -> sled::Result<()> {
        self.sled.flush().map(drop)
    }

    /// Gives sled all of these at once, or none if it crashes meanwhile, when nothing lies over it.
    pub(super) fn write_at_once(&self, entries: &Entries) -> sled::Result<()> {
        let trees = (&self.log, &self.ids, &self.state);
        let written = trees.transaction(|(log, ids, state)| {
            for (key, value) in entries {
                let tree = match Part::of(key) {
                    Part::Log => log,
                    Part::Ids => ids,
                    Part::State => state,
                };
                match value {
                    Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                    None => tree.remove(key.as_slice())?,
                };
            }
            Ok::<(), ConflictableTransactionError<Infallible>>(())
        });
        match written {
            Ok(()) => Ok(()),
            Err(TransactionError::Abort(never)) => match never {},
            Err(TransactionError::Storage(error)) => Err(error),
        }
    }
}

/// The trees.
enum Part {
    Log,
    Ids,
    State,
}

impl Part {
    fn of(key: &[u8]) -> Self {
        match key.first() {
            Some(&(keys::EVENTS | keys::PARTS)) => Self::Log,
            Some(&keys::IDS) => Self::Ids,
            Some(_) | None => Self::State,
        }
    }
}

#[cfg(test)]
mod tests;
