//! sled, and its trees: which key is in which one, and how its memory is held down.
//!
//! For a change of one entry sled writes its leaf of up to sixteen anew, sooner or later. So large
//! values and those that change all the time are kept apart, as the [`Layout`] says. What belongs
//! together is made whole by the write-ahead log.

use std::{convert::Infallible, ops::Bound, path::Path};

use sled::{
    Tree,
    transaction::{ConflictableTransactionError, TransactionError, TransactionalTree},
};

use super::{
    batch::Batch,
    codec::{Decoder, Encoder, Kind, Malformed},
    disk::{Class, Disk},
    error::Error,
    overlay::base::{Base, Bounds, Entry, Slice},
};

/// The first byte of the keys of parts of chunked values; they are in sled's default tree.
pub(crate) const PARTS: u8 = b'p';

/// The tree of the store's own notes, which no key of the floor above reaches.
const NOTES: &[u8] = b"store";
/// The kind of parts of chunked values.
pub(crate) const PART: Kind = Kind::PART;
const STORE_ID: &[u8] = b"id";
const CHECKPOINT: &[u8] = b"checkpoint";

/// Accesses of one of 256 shards after which sled looks at the bound of its cache.
const ACCESSES: usize = 64;

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

/// Random, of one store: it ties a write-ahead log to its trees.
pub(crate) type StoreId = [u8; 16];

/// A moment in the write-ahead log: commits before it, and the next one's index in its segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The number of the segment; segments count from 1.
    pub(super) segment: u64,
    /// Commits in that segment before it.
    pub(super) commits: u32,
}

impl Position {
    /// Before the first commit of a new store.
    pub(super) const BEGINNING: Self = Self { segment: 1, commits: 0 };
}

/// sled's trees. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    sled: sled::Db,
    default: Tree,
    ids: Tree,
    state: Tree,
    notes: Tree,
    layout: Layout,
    disk: Disk,
}

impl Trees {
    /// Opens sled with these settings.
    pub(super) fn open(config: &sled::Config, layout: Layout, disk: &Disk) -> Result<Self, Error> {
        disk.call(Class::Open, || {
            let sled = config.open()?;
            let (default, ids) = (Tree::clone(&sled), sled.open_tree("ids")?);
            let (state, notes) = (sled.open_tree("state")?, sled.open_tree(NOTES)?);
            let disk = disk.clone();
            Ok::<_, sled::Error>(Self { sled, default, ids, state, notes, layout, disk })
        })
    }

    /// The way to the disk.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn tree(&self, key: &[u8]) -> &Tree {
        match key.first() {
            Some(first) if self.layout.ids.contains(first) => &self.ids,
            Some(first) if self.layout.state.contains(first) => &self.state,
            Some(_) | None => &self.default,
        }
    }

    /// Which tree a key is in.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    fn all(&self) -> [&Tree; 4] {
        [&self.default, &self.ids, &self.state, &self.notes]
    }

    /// Whether values with this key may be chunked.
    pub(super) fn may_be_chunked(&self, key: &[u8]) -> bool {
        key.first().is_some_and(|first| self.layout.chunked.contains(first))
    }

    /// Every entry, tree by tree, but for the store's own notes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<Error>> {
        [&self.default, &self.ids, &self.state].into_iter().flat_map(|tree| self.iter(tree))
    }

    fn iter(&self, tree: &Tree) -> TreeIter {
        TreeIter { iter: tree.iter(), disk: self.disk.clone() }
    }

    /// Whether sled has nothing at all.
    pub(crate) fn is_empty(&self) -> Result<bool, Error> {
        self.disk
            .call(Class::Read, || Ok::<_, Error>(self.all().iter().all(|tree| tree.is_empty())))
    }

    /// The store's id; `None` in a new one.
    pub(super) fn store_id(&self) -> Result<Option<StoreId>, Error> {
        let value = self.note(STORE_ID)?;
        value.map(|value| decode_store_id(&value)).transpose().map_err(|e| wrong(STORE_ID, e))
    }

    /// Makes this the store's id.
    pub(super) fn set_store_id(&self, id: StoreId) -> Result<(), Error> {
        let mut note = Encoder::new(Kind::NOTE);
        note.raw(&id);
        self.set_note(STORE_ID, note.seal())
    }

    /// Up to where sled has the write-ahead log; the default in a store that is being made.
    pub(super) fn checkpoint(&self) -> Result<Position, Error> {
        let value = self.note(CHECKPOINT)?;
        let position = value.map(|value| decode_checkpoint(&value)).transpose();
        position.map(Option::unwrap_or_default).map_err(|e| wrong(CHECKPOINT, e))
    }

    /// Notes that sled has the write-ahead log up to here.
    pub(super) fn set_checkpoint(&self, position: Position) -> Result<(), Error> {
        let mut note = Encoder::new(Kind::NOTE);
        note.u64(position.segment).u32(position.commits);
        self.set_note(CHECKPOINT, note.seal())
    }

    fn note(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.disk.call(Class::Read, || self.notes.get(key))
    }

    fn set_note(&self, key: &[u8], value: Vec<u8>) -> Result<(), Error> {
        self.disk.call(Class::Checkpoint, || self.notes.insert(key, value).map(drop))
    }

    /// Gives sled a whole batch, or nothing of it if it crashes meanwhile.
    pub(super) fn change_at_once(&self, batch: &Batch) -> Result<(), Error> {
        let trees = [&self.default, &self.ids, &self.state];
        self.disk.call(Class::Checkpoint, || {
            let written = sled::Transactional::transaction(&trees[..], |trees| {
                batch.iter().try_for_each(|(key, value)| {
                    let [default, ids, state] = trees.as_slice() else { return Ok(()) };
                    let tree: &TransactionalTree = match key.first() {
                        Some(first) if self.layout.ids.contains(first) => ids,
                        Some(first) if self.layout.state.contains(first) => state,
                        Some(_) | None => default,
                    };
                    match value {
                        Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                        None => tree.remove(key.as_slice())?,
                    };
                    Ok::<(), ConflictableTransactionError<Infallible>>(())
                })
            });
            match written {
                Ok(()) => Ok(()),
                Err(TransactionError::Abort(never)) => match never {},
                Err(TransactionError::Storage(error)) => Err(error),
            }
        })
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
            Bound::Unbounded => &self.default,
        };
        TreeIter { iter: tree.range::<Slice, _>(bounds), disk: self.disk.clone() }
    }

    fn change(&self, key: &[u8], value: Option<Slice>) -> Result<(), Error> {
        let tree = self.tree(key);
        self.disk.call(Class::Checkpoint, || match value {
            Some(value) => tree.insert(key, value).map(drop),
            None => tree.remove(key).map(drop),
        })
    }

    /// A scan alone would fill the memory: so the key's shard is accessed until sled looks at its
    /// bound. And what a thread has let go of is freed when it is 64 things, which can be whole
    /// leaves, unless it is asked for earlier.
    fn trim(&self, key: &[u8]) -> Result<(), Error> {
        let tree = self.tree(key);
        self.disk.call(Class::Read, || {
            (0..ACCESSES).try_for_each(|_| tree.contains_key(key).map(drop))
        })?;
        crossbeam_epoch::pin().flush();
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.disk.call(Class::Checkpoint, || self.sled.flush().map(drop))
    }
}

/// Entries of a tree; each step is a watched call.
pub(crate) struct TreeIter {
    iter: sled::Iter,
    disk: Disk,
}

impl Iterator for TreeIter {
    type Item = Entry<Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { iter, disk } = self;
        disk.call(Class::Read, || iter.next().transpose()).transpose()
    }
}

impl DoubleEndedIterator for TreeIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        let Self { iter, disk } = self;
        disk.call(Class::Read, || iter.next_back().transpose()).transpose()
    }
}

/// Reads the note of the store's id.
pub(crate) fn decode_store_id(value: &[u8]) -> Result<StoreId, Malformed> {
    let mut note = Decoder::open(Kind::NOTE, value)?;
    let id = note.array()?;
    note.end()?;
    Ok(id)
}

fn decode_checkpoint(value: &[u8]) -> Result<Position, Malformed> {
    let mut note = Decoder::open(Kind::NOTE, value)?;
    let position = Position { segment: note.u64()?, commits: note.u32()? };
    note.end()?;
    Ok(position)
}

fn wrong(note: &[u8], error: Malformed) -> Error {
    Error::malformed(&format!("the store's note {}", note.escape_ascii()), error)
}

/// Whether sled made a file for a large leaf, which it never syncs. The bound of entries prevents it.
pub(super) fn blob(database: &Path) -> std::io::Result<Option<std::path::PathBuf>> {
    match std::fs::read_dir(database.join("blobs")) {
        Ok(mut blobs) => Ok(blobs.next().transpose()?.map(|blob| blob.path())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
