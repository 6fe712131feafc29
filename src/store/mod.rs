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
pub(crate) use self::disk::durable_flush::tests as fault;
#[doc(hidden)]
pub use self::wal::fuzzing::fuzz_wal;
pub(crate) use self::{
    batch::Batch,
    directory::{Directory, Files},
    disk::{Class, Disk, room},
    overlay::base::Slice,
    trees::{Layout, StoreId},
    view::View,
};
use self::{
    checkpoint::Checkpointer,
    trees::{PARTS, Position, Trees},
    wal::Wal,
};
pub use self::{disk::room::MIN_FREE_DISK, error::Error};

/// The store, to write to. One at a time.
#[derive(Debug)]
pub(crate) struct Store {
    view: View,
    wal: Wal,
    checkpointer: Checkpointer,
    id: StoreId,
    /// There are parts of chunked values in the store, or were since it was opened.
    any_parts: bool,
    /// A commit failed: what comes after it would stand in its place.
    failed: bool,
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
        match with_log(files, &trees, disk, new) {
            Ok(log) => Self::begun(files, trees, log),
            Err(error) => {
                trees.let_go();
                Err(error)
            }
        }
    }

    fn begun(files: &Files, trees: Trees, log: Log) -> Result<Self, Error> {
        let Log { id, checkpoint, wal, commits } = log;
        files.trust_cache();
        let view = View::over(trees, commits);
        let checkpointer = Checkpointer::new(view.clone(), checkpoint);
        let mut store = Self { view, wal, checkpointer, id, any_parts: false, failed: false };
        match store.view.range(vec![PARTS]..vec![PARTS + 1]).next().transpose() {
            Ok(part) => {
                store.any_parts = part.is_some();
                Ok(store)
            }
            Err(error) => {
                // The first error is the one to tell.
                drop(store.close());
                Err(error)
            }
        }
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
            self.view.trees.change_at_once(&batch)?;
            // Who has read ahead in sled reads it anew.
            self.view.memtable.retire();
            return Ok(());
        }
        if !self.wal.has_room(&batch) {
            let now = self.wal.now();
            let segment = now.position.segment;
            self.checkpointer.wait(now, |durable| durable.position.segment >= segment)?;
            self.wal.begin_next()?;
        }
        self.checkpointer.make_way(self.wal.now())?;
        self.wal.append(&batch)?;
        self.view.memtable.apply(view::changes(batch));
        Ok(())
    }

    /// Whether it is time to delete what is of no more use, before sled gets it.
    pub(crate) fn wants_tidy(&mut self) -> bool {
        self.checkpointer.wants_tidy(self.wal.now())
    }

    /// Hears whether sled took what it was given.
    pub(crate) fn tend(&mut self) -> Result<(), Error> {
        self.checkpointer.hear()
    }

    /// Has sled make durable all that was committed.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Error> {
        let now = self.wal.now();
        self.checkpointer.wait(now, |durable| durable.position >= now.position)
    }

    /// Writes everything to a store of its own, the next one, to be put in the place of this one:
    /// sled's file gives back what was deleted only at its end.
    pub(crate) fn copy_to(&mut self, next: &Files) -> Result<(), Error> {
        self.checkpoint()?;
        let Trees { layout, disk, .. } = &self.view.trees;
        let copy = Self::create(next, *layout, disk, Some(self.id))?;
        let filled = self.view.trees.copy_to(&copy.view.trees);
        // However full it is: sled's own drop would panic here.
        filled.and(copy.close())?;
        next.sync_files(disk)
    }

    /// Lets go of the files. What was committed is in them, whatever this returns.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let disk = self.view.trees.disk.clone();
        // sled's own drop unwraps the error of its last sync.
        disk.call(Class::Drop, move || {
            // Its thread has sled open, and would keep the next one out.
            let ended = self.checkpointer.join();
            drop(self);
            ended
        })
    }
}

/// What a store begins with, beside its trees.
struct Log {
    id: StoreId,
    checkpoint: Position,
    wal: Wal,
    commits: Vec<Batch>,
}

fn with_log(files: &Files, trees: &Trees, disk: &Disk, new: Option<StoreId>) -> Result<Log, Error> {
    let id = trees.store_id()?.map_or_else(|| begin(files, trees, new), Ok)?;
    let mut checkpoint = trees.checkpoint()?;
    let (wal, commits) = Wal::open(&files.wal(), id, checkpoint, disk)?;
    if checkpoint == Position::default() {
        // Before anything is committed: a log that is missing from now on is a loss.
        checkpoint = Position { segment: 1, commits: 0 };
        trees.set_checkpoint(checkpoint)?;
    }
    Ok(Log { id, checkpoint, wal, commits })
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
    Ok(id)
}
