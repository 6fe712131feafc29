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

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

pub(super) use self::recovery::{Owner, Recovered, forget_cached};
use self::segment::{FIRST_PAGE, Header, SEGMENT, SIZE, SIZE_U64, encode, first_page, size};
use super::{
    batch::Batch,
    disk::{Class, Disk, durable_flush},
    error::Error,
    trees::Position,
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

impl Wal {
    /// Opens it, or makes it; with the commits that sled may not have.
    pub(super) fn open(
        path: &Path,
        owner: Owner,
        disk: &Disk,
    ) -> Result<(Self, Vec<Batch>), Error> {
        // A small file: what is trusted in it is always what the disk has.
        disk.file(Class::Open, path, || forget_cached(path))?;
        let recovered = disk.call(Class::Open, || Recovered::read(path, owner)?.whole())?;
        let file = disk.file(Class::Open, path, || make(path))?;
        let header =
            Header { segment: recovered.end.segment, store: owner.store, commits_before: 0 };
        let mut wal = Self {
            file,
            disk: disk.clone(),
            header,
            commits: recovered.end.commits,
            at: recovered.at,
            // What is in the memtable again is to be given to sled like any other commit.
            written: recovered.commits.iter().map(bytes).sum(),
        };
        if wal.header.segment == 0 {
            wal.begin_next()?;
        }
        Ok((wal, recovered.commits))
    }

    /// Where the next commit goes.
    pub(super) fn position(&self) -> Position {
        Position { segment: self.header.segment, commits: self.commits }
    }

    /// Bytes of commits since it was opened.
    pub(super) fn written(&self) -> u64 {
        self.written
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
        self.write(&bytes, self.at)?;
        self.commits += 1;
        self.at += bytes.len();
        self.written += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(())
    }

    /// Begins the other segment. What that holds must not be needed any more.
    pub(super) fn begin_next(&mut self) -> Result<(), Error> {
        let before = self.header;
        self.header.segment += 1;
        self.header.commits_before = self.commits;
        if let Err(error) = self.write(&first_page(self.header), 0) {
            self.header = before;
            return Err(error);
        }
        (self.commits, self.at) = (0, FIRST_PAGE);
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: usize) -> Result<(), Error> {
        let half = if self.header.segment % 2 == 1 { SEGMENT } else { 0 };
        let offset = u64::try_from(half + at).unwrap_or(u64::MAX);
        self.disk.call(Class::Write, || {
            self.file.write_all_at(bytes, offset)?;
            durable_flush::sync(&self.file)
        })
    }
}

/// Bytes of a commit.
fn bytes(batch: &Batch) -> u64 {
    u64::try_from(size(batch)).unwrap_or(u64::MAX)
}

/// Filled with zeros, not only reserved: then a sync has nothing but data to write.
fn make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    if file.metadata()?.len() < SIZE_U64 {
        file.write_all_at(&vec![0; SIZE], 0)?;
        file.sync_all()?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
