//! The write-ahead log: commits that sled does not have yet, or may not have made durable.
//!
//! Owns one file of two segments. A commit is written there and synced; from then on it is in the
//! store, and it is answered. When a segment is full, the other one is begun, once sled has made
//! durable what that one holds. After a crash the commits from the checkpoint on are in the
//! memtable again. They only set and remove entries, so sled may have some of them already.

#[path = "tests/fuzzing.rs"]
pub(super) mod fuzzing;
mod recovery;
pub(super) mod segment;

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

pub(super) use self::recovery::Recovered;
use self::segment::{FIRST_PAGE, Header, SEGMENT, SIZE, SIZE_U64, encode, first_page, size};
use super::{
    batch::Batch,
    disk::{Class, Disk, durable_flush},
    error::Error,
    trees::{Position, StoreId},
};

/// The file, and where in it the next commit goes.
#[derive(Debug)]
pub(super) struct Wal {
    file: File,
    disk: Disk,
    header: Header,
    /// Commits in this segment.
    commits: u32,
    /// Where the next one goes, from the beginning of the segment.
    at: usize,
    /// Bytes of commits since it was opened.
    written: u64,
}

/// A moment in the write-ahead log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Bytes of commits since it was opened.
    pub(super) written: u64,
    /// Where the next commit goes.
    pub(super) position: Position,
}

impl Wal {
    /// Opens the log of this store, or makes it; with the commits that sled, which has those up to
    /// the checkpoint, may not have.
    pub(super) fn open(
        path: &Path,
        store: StoreId,
        checkpoint: Position,
        disk: &Disk,
    ) -> Result<(Self, Vec<Batch>), Error> {
        // A small file: what is trusted in it is always what the disk has.
        let file = disk.file(Class::Open, path, || durable_flush::open(path, true))?;
        let recovered = disk.call(Class::Open, || Recovered::read(path, store, checkpoint))?;
        if !recovered.faults.is_empty() {
            return Err(Error::Damaged(recovered.faults.join("; ")));
        }
        disk.file(Class::Open, path, || fill(&file, path))?;
        let mut wal = Self {
            file,
            disk: disk.clone(),
            header: Header { segment: recovered.end.segment, store, commits_before: 0 },
            commits: recovered.end.commits,
            at: recovered.at,
            // What is in the memtable again is to be given to sled like any other commit.
            written: u64::try_from(recovered.commits.iter().map(size).sum::<usize>()).unwrap_or(0),
        };
        if wal.header.segment == 0 {
            wal.begin_next()?;
        }
        Ok((wal, recovered.commits))
    }

    /// What was written by now.
    pub(super) fn now(&self) -> Point {
        let position = Position { segment: self.header.segment, commits: self.commits };
        Point { written: self.written, position }
    }

    /// Whether a batch can be a commit at all; a larger one goes to sled at once.
    pub(super) fn fits(batch: &Batch) -> bool {
        FIRST_PAGE + size(batch) <= SEGMENT
    }

    /// Whether it fits into what is left of this segment.
    pub(super) fn has_room(&self, batch: &Batch) -> bool {
        self.at + size(batch) <= SEGMENT
    }

    /// Writes a commit and syncs it. After an error it is not known what is on disk.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        let bytes = encode(&self.header, self.commits, batch);
        self.write(&self.header, self.at, &bytes)?;
        self.commits += 1;
        self.at += bytes.len();
        self.written += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(())
    }

    /// Begins the other segment. What that holds must not be needed any more.
    pub(super) fn begin_next(&mut self) -> Result<(), Error> {
        let Header { segment, store, .. } = self.header;
        let next = Header { segment: segment + 1, store, commits_before: self.commits };
        self.write(&next, 0, &first_page(next))?;
        (self.header, self.commits, self.at) = (next, 0, FIRST_PAGE);
        Ok(())
    }

    /// Writes into a segment, and syncs.
    fn write(&self, of: &Header, at: usize, bytes: &[u8]) -> Result<(), Error> {
        let half = if of.segment % 2 == 1 { SEGMENT } else { 0 };
        let offset = u64::try_from(half + at).unwrap_or(u64::MAX);
        self.disk.call(Class::Write, || {
            self.file.write_all_at(bytes, offset)?;
            durable_flush::sync_data(&self.file)
        })
    }
}

/// Fills a new log with zeros, not only reserves room: then a sync has nothing but data to write.
fn fill(file: &File, path: &Path) -> io::Result<()> {
    if file.metadata()?.len() < SIZE_U64 {
        file.write_all_at(&vec![0; SIZE], 0)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), durable_flush::sync_path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
