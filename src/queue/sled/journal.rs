//! The journal: commits that sled does not have yet, or may not have made durable.
//!
//! Owns one file of two halves. A commit is written there and synced; from then on it is in the
//! store, and it is answered. Sled gets it later, with what came of it meanwhile. When a half is
//! full, the other one is begun, once sled has made durable what that one holds. After a crash sled
//! gets the commits of both halves, in their order. They only set and remove entries, so doing that
//! again comes to the same; and sled never has one that the journal has not, so it comes to the
//! last of them.

mod contents;
mod flusher;
mod half;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

pub(super) use self::contents::{Contents, Owner};
use self::{
    flusher::{Flusher, Point},
    half::{HALF, START, commit, first_page},
};
use super::{OpenError, database::Db, durable_flush, entry::decode_number, keys, writer::Entries};

/// Sled gets the rest of a half at the latest after this time.
const SOON: Duration = Duration::from_secs(1);
/// Sled gets so many bytes of commits at once, when half as many have come after them: by then most
/// of it is deleted again. Twice as many are in memory at most.
const LAYER: u64 = 4 * 1024 * 1024;
/// With so many bytes of commits, what is of no more use is to be deleted: before sled gets those
/// that came before, and before these are frozen.
const TIDY: [u64; 2] = [LAYER / 8 * 3, LAYER / 8 * 7];
/// Both halves are begun anew when nothing in them is needed any more.
const BOTH: u64 = 2;

/// Where it is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("journal")
}

/// The file, and where in it the next commit goes.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    store: [u8; 16],
    /// Counts the halves as they are begun; that of an odd one is the second of the file.
    generation: u64,
    /// Commits in this half.
    count: u32,
    /// Where the next one goes, from the beginning of the half.
    at: usize,
    /// Bytes written since it was opened.
    written: u64,
    /// When there was last nothing that sled does not get.
    waits_since: Instant,
    /// How often it was said of what waits that it wants room.
    said: usize,
    flusher: Flusher,
}

impl Journal {
    /// Opens it, or makes it, and gives sled what that may not have.
    pub(super) fn open(directory: &Path, db: &Db, store: [u8; 16]) -> Result<Self, OpenError> {
        let contents = Contents::read(directory, Owner { store, noted: noted(db)? })?.whole()?;
        for entries in &contents.commits {
            db.apply(entries)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path(directory))?;
        if file.metadata()?.len() < size() {
            // Written, not only reserved: then a sync has nothing but data to write.
            file.write_all_at(&vec![0; 2 * HALF], 0)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        let mut journal = Self {
            file,
            store,
            generation: contents.newest,
            count: 0,
            at: START,
            written: 0,
            waits_since: Instant::now(),
            said: 0,
            flusher: Flusher::new(db.clone()),
        };
        journal.clear(db)?;
        Ok(journal)
    }

    /// Makes these entries durable; then they are in the database.
    pub(super) fn commit(&mut self, db: &Db, entries: Entries) -> sled::Result<()> {
        if self.append(&entries)? {
            db.take(entries);
            return Ok(());
        }
        self.clear(db)?;
        db.write_at_once(&entries)?;
        db.flush()
    }

    /// Writes them down and syncs that. False if they are too large for it.
    fn append(&mut self, entries: &Entries) -> sled::Result<bool> {
        let mut bytes = commit(self.generation, self.count, entries);
        if START + bytes.len() > HALF {
            return Ok(false);
        }
        if self.at + bytes.len() > HALF {
            let now = self.now();
            self.flusher.wait(now, |durable| durable.generation >= now.generation)?;
            self.begin()?;
            bytes = commit(self.generation, self.count, entries);
        }
        self.give()?;
        self.file.write_all_at(&bytes, place(self.generation, self.at))?;
        durable_flush::sync(&self.file)?;
        self.count += 1;
        self.at += bytes.len();
        self.written += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(true)
    }

    fn now(&self) -> Point {
        Point { written: self.written, generation: self.generation }
    }

    /// Bytes of commits that sled has not got, and does not get next.
    fn waits(&self) -> u64 {
        self.written - self.flusher.reaches().written
    }

    /// Gives sled what is due. If it is slow, commits wait for it here.
    fn give(&mut self) -> sled::Result<()> {
        self.flusher.look()?;
        if self.waits() >= LAYER {
            let before = self.flusher.reaches().written;
            self.flusher.wait(self.now(), |durable| durable.written >= before)?;
            self.flusher.freeze(self.now());
        }
        if self.waits() >= LAYER / 2 {
            self.flusher.begin()?;
        }
        Ok(())
    }

    /// Whether it is time to delete what is of no more use. Said twice of each layer.
    pub(super) fn wants_room(&mut self) -> bool {
        let before = self.said;
        self.said = TIDY.iter().filter(|bytes| self.waits() >= **bytes).count();
        self.said > before
    }

    /// Gives sled what has waited for some time, and hears whether it took what it was given.
    pub(super) fn tend(&mut self) -> sled::Result<()> {
        self.flusher.look()?;
        if self.flusher.reaches().written >= self.written {
            self.waits_since = Instant::now();
        } else if self.waits_since.elapsed() >= SOON {
            self.waits_since = Instant::now();
            self.flusher.freeze(self.now());
            self.flusher.begin()?;
        }
        Ok(())
    }

    /// Has sled make durable all of it, so that nothing in it is needed any more.
    pub(super) fn clear(&mut self, db: &Db) -> sled::Result<()> {
        let now = self.now();
        self.flusher.wait(now, |durable| durable.written >= now.written)?;
        db.note_journal(self.generation + BOTH)?;
        db.flush()?;
        self.flusher.noted(self.generation + BOTH);
        self.begin()?;
        Ok(self.begin()?)
    }

    /// Begins the other half. What that holds must not be needed any more.
    fn begin(&mut self) -> io::Result<()> {
        let generation = self.generation + 1;
        self.file.write_all_at(&first_page(generation, self.store), place(generation, 0))?;
        durable_flush::sync(&self.file)?;
        (self.generation, self.count, self.at) = (generation, 0, START);
        Ok(())
    }
}

fn size() -> u64 {
    u64::try_from(2 * HALF).unwrap_or(u64::MAX)
}

fn place(generation: u64, at: usize) -> u64 {
    let half = if generation % 2 == 1 { HALF } else { 0 };
    u64::try_from(half + at).unwrap_or(u64::MAX)
}

/// The last half that sled knows of; 0 before the first.
pub(super) fn noted(db: &Db) -> Result<u64, OpenError> {
    let number = db.get(keys::JOURNAL)?.map_or(Ok(0), |value| decode_number(&value));
    number.map_err(|error| OpenError::damaged("m|journal", error))
}

#[cfg(test)]
mod tests;
