//! A small ordered store with durable commits: a write-ahead log, two memtables, and sled below.
//!
//! Owns its directory and every call to the disk. It knows batches, keys and ranges, and nothing of
//! queues. `Store::commit` is durable when it returns; a crash leaves whole commits, in their
//! order; damage is an error that names what is damaged. After an error nothing is flushed again:
//! the store is closed and opened anew. `docs/STORE.md` has the files, and what a crash leaves.

mod batch;
mod checkpoint;
pub(crate) mod chunked;
pub(crate) mod codec;
pub(crate) mod directory;
pub(crate) mod disk;
mod error;
pub(crate) mod inspect;
mod overlay;
pub(crate) mod trees;
mod view;
mod wal;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::disk::durable_flush::fault;
pub(crate) use self::{
    batch::Batch,
    directory::{Directory, Files},
    disk::{Class, Disk, room},
    overlay::base::Slice,
    trees::{Layout, StoreId},
    view::View,
};
use self::{
    checkpoint::{Checkpointer, Point},
    disk::durable_flush,
    overlay::base::Base,
    trees::{PARTS, Position, Trees},
    wal::{Owner, Wal},
};
pub use self::{disk::room::MIN_FREE_DISK, error::Error};

/// The store, to write to. One at a time.
#[derive(Debug)]
pub(crate) struct Store {
    files: Files,
    view: View,
    wal: Wal,
    checkpointer: Checkpointer,
    id: StoreId,
    /// There are parts of chunked values in the store, or were since it was opened.
    any_parts: bool,
    /// A commit failed: what comes after it would stand in its place.
    failed: bool,
    disk: Disk,
}

impl Store {
    /// Opens the store with these files, or makes it. What a crash left in the write-ahead log is in
    /// the memtable then; nothing is written to sled but a new store's notes.
    pub(crate) fn open(files: &Files, layout: Layout, disk: &Disk) -> Result<Self, Error> {
        Self::open_as(files, layout, disk, None)
    }

    /// Makes a store with this id; one that was begun there earlier is removed.
    pub(crate) fn create(
        files: &Files,
        layout: Layout,
        disk: &Disk,
        id: Option<StoreId>,
    ) -> Result<Self, Error> {
        files.remove()?;
        Self::open_as(files, layout, disk, id)
    }

    fn open_as(
        files: &Files,
        layout: Layout,
        disk: &Disk,
        new: Option<StoreId>,
    ) -> Result<Self, Error> {
        let trees = files.open(layout, disk)?;
        let id = match trees.store_id()? {
            Some(id) => id,
            None => begin(files, &trees, new)?,
        };
        let mut checkpoint = trees.checkpoint()?;
        let (wal, commits) = Wal::open(&files.wal(), Owner { store: id, checkpoint }, disk)?;
        let view = View::new(trees);
        if checkpoint == Position::default() {
            // Before anything is committed: a log that is missing from now on is a loss.
            checkpoint = Position::BEGINNING;
            let before = durable_flush::syncs();
            view.trees.set_checkpoint(checkpoint)?;
            checkpoint::flush(&view, before)?;
        }
        for batch in commits {
            view.memtable.apply(slices(batch));
        }
        files.trust_cache();
        let checkpointer = Checkpointer::new(view.clone(), checkpoint);
        let any_parts = view.range(vec![PARTS]..vec![PARTS + 1]).next().transpose()?.is_some();
        let (files, disk) = (files.clone(), disk.clone());
        Ok(Self { files, view, wal, checkpointer, id, any_parts, failed: false, disk })
    }

    /// What is in it, for readers.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Random, and made with the store.
    pub(crate) fn id(&self) -> StoreId {
        self.id
    }

    /// Makes these changes durable, all or none. After an error it is not known which: the store is
    /// to be closed and opened anew.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.failed {
            return Err(Error::other("an earlier commit failed"));
        }
        // Until it is known that this one did not.
        self.failed = true;
        self.write(batch)?;
        self.failed = false;
        Ok(())
    }

    fn write(&mut self, batch: Batch) -> Result<(), Error> {
        let batch = chunked::expand(&self.view, batch, &mut self.any_parts)?;
        if !Wal::fits(&batch) {
            self.checkpoint()?;
            let before = durable_flush::syncs();
            self.view.trees.change_at_once(&batch)?;
            // Who has read ahead in sled reads it anew.
            self.view.memtable.retire();
            return checkpoint::flush(&self.view, before);
        }
        let now = self.now();
        if !self.wal.has_room(&batch) {
            let segment = now.position.segment;
            self.checkpointer.wait(now, |durable| durable.position.segment >= segment)?;
            self.wal.begin_next()?;
        }
        self.checkpointer.make_way(self.now())?;
        self.wal.append(&batch)?;
        self.view.memtable.apply(slices(batch));
        Ok(())
    }

    /// Whether it is time to delete what is of no more use, before sled gets it.
    pub(crate) fn wants_tidy(&mut self) -> bool {
        let now = self.now();
        self.checkpointer.wants_tidy(now)
    }

    /// Hears whether sled took what it was given.
    pub(crate) fn tend(&mut self) -> Result<(), Error> {
        self.checkpointer.hear()
    }

    /// Has sled make durable all that was committed.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Error> {
        let now = self.now();
        self.checkpointer.wait(now, |durable| durable.position >= now.position)
    }

    /// Bytes that sled's file takes, free ones in it included.
    pub(crate) fn database_len(&self) -> u64 {
        self.files.database_len()
    }

    /// Writes everything to a store of its own, the next one, to be put in the place of this one:
    /// sled's file gives back what was deleted only at its end.
    pub(crate) fn copy_to(&mut self, next: &Files) -> Result<(), Error> {
        self.checkpoint()?;
        let layout = self.view.trees.layout();
        let copy = Self::create(next, layout, &self.disk, Some(self.id))?;
        let mut bytes = 0;
        for (index, entry) in self.view.trees.entries().enumerate() {
            let (key, value) = entry?;
            bytes += key.len() + value.len();
            copy.view.trees.change(&key, Some(value))?;
            if index % 8 == 7 {
                self.view.trees.trim(&key)?;
                copy.view.trees.trim(&key)?;
            }
            if bytes >= 1 << 20 {
                copy.view.trees.flush()?;
                bytes = 0;
            }
        }
        copy.view.trees.flush()?;
        copy.close()?;
        next.sync_files()
    }

    /// Lets go of the files. What was committed is in them, whatever this returns.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let disk = self.disk.clone();
        // sled's own drop unwraps the error of its last sync.
        disk.call(Class::Drop, move || {
            // Its thread has sled open, and would keep the next one out.
            let ended = self.checkpointer.end();
            drop(self);
            ended
        })
    }

    fn now(&self) -> Point {
        Point { written: self.wal.written(), position: self.wal.position() }
    }
}

/// Gives a new store its id. Where there was a store before, sled has lost that.
fn begin(files: &Files, trees: &Trees, id: Option<StoreId>) -> Result<StoreId, Error> {
    if files.were_used() || !trees.is_empty()? {
        return Err(Error::Damaged("sled finds nothing in the database".into()));
    }
    let random = || {
        let mut id = StoreId::default();
        let filled = aws_lc_rs::rand::fill(&mut id);
        filled.map(|()| id).map_err(|_| Error::other("no random numbers"))
    };
    let id = id.map_or_else(random, Ok)?;
    trees.set_store_id(id)?;
    trees.flush()?;
    Ok(id)
}

/// Changes as a memtable takes them.
fn slices(batch: Batch) -> impl Iterator<Item = (Slice, Option<Slice>)> {
    batch.into_iter().map(|(key, value)| (key.into(), value.map(Into::into)))
}

/// Where sled has the write-ahead log up to, of a store that is only looked at.
fn owner(trees: &Trees) -> Result<Option<Owner>, Error> {
    let checkpoint: Position = trees.checkpoint()?;
    Ok(trees.store_id()?.map(|store| Owner { store, checkpoint }))
}

/// A door for fuzz targets: see [`wal::segment`].
#[doc(hidden)]
pub fn fuzz_wal(bytes: &[u8]) -> bool {
    wal::segment::fuzz(bytes)
}
