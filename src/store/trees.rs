//! sled, and its trees: which key is in which one, what proves that they are durable, and how sled's
//! memory is held down.
//!
//! For a change of one entry sled writes its leaf of up to sixteen anew, sooner or later. So large
//! values and those that change all the time are kept apart, as the [`Layout`] says. What belongs
//! together is made whole by the write-ahead log.

use std::{
    convert::Infallible,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sled::{
    Tree,
    transaction::{ConflictableTransactionError, TransactionError},
};

use super::{
    batch::Batch,
    codec::{self, Kind},
    disk::{Class, Disk, durable_flush},
    error::Error,
    overlay::base::{Base, Bounds, Entry, Slice},
};

/// The first byte of the keys of parts of chunked values; they are in sled's default tree.
pub(crate) const PARTS: u8 = b'p';

/// The tree of the store's own notes, which no key of the floor above reaches.
const NOTES: &[u8] = b"store";
const STORE_ID: &[u8] = b"id";
const CHECKPOINT: &[u8] = b"checkpoint";

/// sled's memory is held down after this many entries were read or changed.
const TRIM: usize = 8;
/// Accesses of one of 256 shards after which sled looks at the bound of its cache.
const ACCESSES: usize = 64;
/// Bytes that sled is given before it is flushed: the less, the shorter a commit waits for the disk
/// while sled writes.
const STEP: usize = 1024 * 1024;

/// Which tree a key is in, by its first byte, and which values may be chunked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// First bytes of the keys of the tree `ids`.
    pub(crate) ids: &'static [u8],
    /// First bytes of the keys of the tree `state`. All other keys are in sled's default tree.
    pub(crate) state: &'static [u8],
    /// First bytes of the keys whose values may be larger than an entry.
    pub(crate) chunked: &'static [u8],
}

impl Layout {
    /// Of these trees the one that a key is in.
    fn pick<'a, T>(&self, [default, ids, state]: [&'a T; 3], key: &[u8]) -> &'a T {
        match key.first() {
            Some(first) if self.ids.contains(first) => ids,
            Some(first) if self.state.contains(first) => state,
            Some(_) | None => default,
        }
    }
}

/// Random, of one store: it ties a write-ahead log to its trees.
pub(crate) type StoreId = [u8; 16];

/// How far the write-ahead log is: this many commits into this segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Position {
    /// Segments count from 1.
    pub(super) segment: u64,
    pub(super) commits: u32,
}

/// sled's trees. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    /// Its own is the default tree.
    sled: sled::Db,
    ids: Tree,
    state: Tree,
    notes: Tree,
    pub(super) layout: Layout,
    pub(super) disk: Disk,
    given: Arc<Given>,
}

/// What sled was given.
#[derive(Debug, Default)]
struct Given {
    changes: AtomicUsize,
    /// Since it was flushed.
    bytes: AtomicUsize,
}

impl Trees {
    /// Opens sled with these settings.
    pub(super) fn open(config: &sled::Config, layout: Layout, disk: &Disk) -> Result<Self, Error> {
        disk.call(Class::Open, || {
            let sled = config.open()?;
            let (ids, state) = (sled.open_tree("ids")?, sled.open_tree("state")?);
            let notes = sled.open_tree(NOTES)?;
            let (disk, given) = (disk.clone(), Arc::default());
            Ok::<_, sled::Error>(Self { sled, ids, state, notes, layout, disk, given })
        })
    }

    /// Closes sled, watched as every call is. What it says comes too late for anyone: sled's own drop syncs once
    /// more, unwraps the error of that, and can wait for a write that ended without a word.
    pub(super) fn let_go(self) {
        let disk = self.disk.clone();
        let closed = disk.call(Class::Drop, move || {
            drop(self);
            Ok::<_, Error>(())
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "sled could not be closed in order");
        }
    }

    fn all(&self) -> [&Tree; 3] {
        [&self.sled, &self.ids, &self.state]
    }

    fn tree(&self, key: &[u8]) -> &Tree {
        self.layout.pick(self.all(), key)
    }

    /// Every entry, tree by tree, but for the store's own notes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<Error>> {
        self.all().into_iter().flat_map(|tree| TreeIter::new(tree.iter(), tree, &self.disk))
    }

    /// Gives others all of these entries, and makes them durable there.
    pub(super) fn copy_to(&self, others: &Self) -> Result<(), Error> {
        for entry in self.entries() {
            let (key, value) = entry?;
            others.change(&key, Some(value))?;
        }
        others.flush()
    }

    /// The same, without what cannot be read of two trees: all of the third one is of use only as a
    /// whole. What lies between two pages that cannot be read is left out, too.
    pub(super) fn copy_readable_to(&self, others: &Self) -> Result<(), Error> {
        for tree in [&*self.sled, &self.ids] {
            let mut entries = TreeIter::new(tree.iter(), tree, &self.disk);
            while let Some(Ok((key, value))) = entries.next() {
                others.change(&key, Some(value))?;
            }
            while let Some(Ok((key, value))) = entries.next_back() {
                others.change(&key, Some(value))?;
            }
        }
        for entry in TreeIter::new(self.state.iter(), &self.state, &self.disk) {
            let (key, value) = entry?;
            others.change(&key, Some(value))?;
        }
        self.store_id()?.map_or(Ok(()), |id| others.set_store_id(id))?;
        others.set_checkpoint(self.checkpoint()?)
    }

    /// Whether sled has nothing at all.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let is_empty =
            || Ok::<_, Error>(self.notes.is_empty() && self.all().iter().all(|t| t.is_empty()));
        self.disk.call(Class::Read, is_empty)
    }

    /// The store's id; `None` in a new one.
    pub(super) fn store_id(&self) -> Result<Option<StoreId>, Error> {
        self.note(STORE_ID)
    }

    /// Makes this the store's id, durably.
    pub(super) fn set_store_id(&self, id: StoreId) -> Result<(), Error> {
        self.set_note(STORE_ID, &id)
    }

    /// Up to where sled has the write-ahead log; the default in a store that is being made.
    pub(super) fn checkpoint(&self) -> Result<Position, Error> {
        Ok(self.note(CHECKPOINT)?.unwrap_or_default())
    }

    /// Notes that sled has the write-ahead log up to here, and makes that and all that it was given
    /// durable. The note stands behind all of it in sled's log: a reader that finds the note finds the rest.
    pub(super) fn set_checkpoint(&self, position: Position) -> Result<(), Error> {
        self.set_note(CHECKPOINT, &position)
    }

    fn note<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        let value = self.disk.call(Class::Read, || self.notes.get(key))?;
        let wrong = |e| Error::malformed(&format!("the store's note {}", key.escape_ascii()), e);
        value.map(|value| codec::decode(Kind::NOTE, &value)).transpose().map_err(wrong)
    }

    fn set_note<T: Serialize>(&self, key: &[u8], note: &T) -> Result<(), Error> {
        let value = codec::encode(Kind::NOTE, note);
        self.durably(|| self.notes.insert(key, value).map(drop))
    }

    /// Gives sled a whole batch, or nothing of it if it crashes meanwhile, and makes it durable.
    pub(super) fn change_at_once(&self, batch: &Batch) -> Result<(), Error> {
        let written = || {
            let trees = (&*self.sled, &self.ids, &self.state);
            sled::Transactional::transaction(&trees, |(default, ids, state)| {
                batch.0.iter().try_for_each(|(key, value)| {
                    let tree = self.layout.pick([default, ids, state], key);
                    match value {
                        Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                        None => tree.remove(key.as_slice())?,
                    };
                    Ok::<(), ConflictableTransactionError<Infallible>>(())
                })
            })
        };
        self.durably(|| match written() {
            Ok(()) => Ok(()),
            Err(TransactionError::Abort(never)) => match never {},
            Err(TransactionError::Storage(error)) => Err(error),
        })
    }

    /// Makes this change, and what sled was given before it, durable, and proves that sled's file was
    /// synced. sled may have synced it by itself, and has nothing left to flush then.
    pub(super) fn durably(&self, change: impl FnOnce() -> sled::Result<()>) -> Result<(), Error> {
        let before = durable_flush::syncs();
        self.disk.call(Class::Checkpoint, change)?;
        self.flush()?;
        if durable_flush::syncs() == before {
            return Err(Error::other(
                "a flush of the database did not sync its file; this build must not be used",
            ));
        }
        Ok(())
    }

    /// Makes durable what was changed.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.given.bytes.store(0, Ordering::Relaxed);
        self.disk.call(Class::Checkpoint, || self.sled.flush().map(drop))
    }
}

impl Base for Trees {
    type Error = Error;
    type Iter = TreeIter;

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.disk.call(Class::Read, || self.tree(key).get(key))
    }

    fn range(&self, bounds: Bounds) -> TreeIter {
        let tree = match &bounds.0 {
            Bound::Included(key) | Bound::Excluded(key) => self.tree(key),
            Bound::Unbounded => &self.sled,
        };
        TreeIter::new(tree.range::<Slice, _>(bounds), tree, &self.disk)
    }

    /// Makes all but the last step durable, too.
    fn change(&self, key: &[u8], value: Option<Slice>) -> Result<(), Error> {
        let tree = self.tree(key);
        let bytes = key.len() + value.as_ref().map_or(0, |value| value.len());
        self.disk.call(Class::Checkpoint, || match value {
            Some(value) => tree.insert(key, value).map(drop),
            None => tree.remove(key).map(drop),
        })?;
        if self.given.changes.fetch_add(1, Ordering::Relaxed) % TRIM == TRIM - 1 {
            trim(tree, key, &self.disk)?;
        }
        if self.given.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= STEP {
            self.flush()?;
        }
        Ok(())
    }
}

/// Entries of a tree; each step is a watched call, and holds sled's memory down.
pub(crate) struct TreeIter {
    iter: sled::Iter,
    tree: Tree,
    disk: Disk,
    /// Entries read since sled's memory was held down, and the last of them.
    untrimmed: usize,
    last: Option<Slice>,
}

impl TreeIter {
    fn new(iter: sled::Iter, tree: &Tree, disk: &Disk) -> Self {
        let (tree, disk) = (tree.clone(), disk.clone());
        Self { iter, tree, disk, untrimmed: 0, last: None }
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(Slice, Slice)>>,
    ) -> Option<Entry<Error>> {
        let entry = self.disk.call(Class::Read, || step(&mut self.iter).transpose());
        entry.and_then(|entry| self.read(entry)).transpose()
    }

    fn read(&mut self, entry: Option<(Slice, Slice)>) -> Result<Option<(Slice, Slice)>, Error> {
        if let Some((key, _)) = &entry {
            self.untrimmed += 1;
            self.last = Some(key.clone());
            if self.untrimmed == TRIM {
                self.trim()?;
            }
        }
        Ok(entry)
    }

    fn trim(&mut self) -> Result<(), Error> {
        self.untrimmed = 0;
        self.last.take().map_or(Ok(()), |key| trim(&self.tree, &key, &self.disk))
    }
}

impl Iterator for TreeIter {
    type Item = Entry<Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for TreeIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

impl Drop for TreeIter {
    fn drop(&mut self) {
        // If it cannot, the next read says so.
        drop(self.trim());
    }
}

/// Holds sled's memory down after a few entries were read or changed, this one the last. A scan alone
/// would fill it: so the key's shard is accessed until sled looks at its bound. And what a thread has
/// let go of is freed when it is 64 things, which can be whole leaves, unless it is asked for earlier.
fn trim(tree: &Tree, key: &[u8], disk: &Disk) -> Result<(), Error> {
    disk.call(Class::Read, || (0..ACCESSES).try_for_each(|_| tree.contains_key(key).map(drop)))?;
    crossbeam_epoch::pin().flush();
    Ok(())
}
