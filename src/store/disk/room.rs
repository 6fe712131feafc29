//! Room on the disk: what is free, and what is kept for the store so that nobody else takes it.
//!
//! sled's file grows into blocks behind its end that were allocated before. Opening sled needs room
//! for a snapshot, a file of its own: a ballast makes way for that.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{Class, Disk};
pub(crate) use crate::store::checkpoint::GROWTH;
use crate::store::{directory::Directory, error::Error};

/// A snapshot takes about 15 bytes for each page of sled, so this is enough for some ten gigabytes.
pub(crate) const BALLAST: u64 = 4 * 1024 * 1024;

/// With fewer bytes than this kept free the disk could fill up before anyone is refused: what is
/// kept for the store, and what its file can grow by until that is taken anew.
pub const MIN_FREE_DISK: u64 = 2 * GROWTH;

/// What is kept for a store.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// sled's file.
    database: PathBuf,
    ballast: PathBuf,
    /// Bytes to keep behind the end of sled's file.
    growth: u64,
    disk: Disk,
    /// The file system cannot reserve room; the store does without.
    unsupported: bool,
    /// Why it could not be taken last, which is logged once.
    told: Option<String>,
}

impl Reserve {
    /// Of the store in this directory, which holds up to `max_bytes`.
    pub(crate) fn of(directory: &Directory, max_bytes: u64, disk: &Disk) -> Self {
        Self {
            database: directory.store().database().join("db"),
            ballast: directory.path().join("ballast"),
            growth: (max_bytes / 64).clamp(GROWTH / 2, GROWTH),
            disk: disk.clone(),
            unsupported: false,
            told: None,
        }
    }

    /// Makes way for opening the store; whether there was anything to give.
    pub(crate) fn give_way(&self) -> bool {
        let removed = self.disk.file(Class::Room, &self.ballast, || fs::remove_file(&self.ballast));
        if removed.is_ok() {
            tracing::warn!("the disk is full: removed the ballast file, to open the store");
        }
        removed.is_ok()
    }

    /// Bytes of sled's file.
    pub(crate) fn database_len(&self) -> u64 {
        self.disk
            .file(Class::Room, &self.database, || fs::metadata(&self.database))
            .map_or(0, |file| file.len())
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> u64 {
        let kept = self.disk.call(Class::Room, || {
            let ballast = fs::metadata(&self.ballast).map_or(0, |file| file.len());
            let behind = |file: Metadata| (file.blocks() * 512).saturating_sub(file.len());
            Ok::<_, io::Error>(ballast + fs::metadata(&self.database).map_or(0, behind))
        });
        kept.unwrap_or(0)
    }

    /// Takes what is missing of it, as far as there is room.
    pub(crate) fn keep(&mut self) {
        if self.unsupported {
            return;
        }
        let ballast = self.disk.file(Class::Room, &self.ballast, || self.keep_ballast());
        let growth = self.disk.file(Class::Room, &self.database, || self.keep_growth());
        // That the disk is full shows in the room that there is.
        let failed = [ballast.err(), growth.err()].into_iter().flatten();
        let failed = failed.filter(|error| !error.is_full()).last();
        self.unsupported = failed.as_ref().is_some_and(Error::is_unsupported);
        let why = failed.map(|error| error.to_string());
        if let Some(why) = &why
            && self.told.as_ref() != Some(why)
        {
            tracing::warn!(%why, "cannot reserve room on the disk");
        }
        self.told = why;
    }

    fn keep_ballast(&self) -> io::Result<()> {
        if fs::metadata(&self.ballast).is_ok_and(|file| file.len() == BALLAST) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.ballast);
        fallocate(file?, FallocateFlags::empty(), 0, BALLAST).map_err(|error| {
            drop(fs::remove_file(&self.ballast));
            error.into()
        })
    }

    /// Allocates blocks behind the end of sled's file, which stays where it is.
    fn keep_growth(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.database)?;
        let end = file.metadata()?.len();
        Ok(fallocate(file, FallocateFlags::KEEP_SIZE, end, self.growth)?)
    }
}

/// Free bytes for us on the disk; if it cannot say, writing will show.
pub(crate) fn free(directory: &Path, disk: &Disk) -> u64 {
    let found = disk.call(Class::Room, || {
        let found = rustix::fs::statvfs(directory).map_err(io::Error::from)?;
        Ok::<_, io::Error>(found.f_bavail.saturating_mul(found.f_frsize))
    });
    found.unwrap_or(u64::MAX)
}
