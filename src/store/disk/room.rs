//! Room on the disk: what is free, and a ballast that is given up when the disk is full.
//!
//! The ballast is a file that only takes up room. It is given up so that sled can write what is
//! settled and delivery goes on, and made again once there is room for twice as much.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{Class, Disk};
pub(crate) use crate::store::checkpoint::GROWTH;

/// The ballast's size where the store may become large enough for it: what sled's file can grow by.
pub(crate) const BALLAST: u64 = GROWTH;
/// Below this it would not help.
const SMALLEST: u64 = GROWTH / 2;

/// With fewer bytes than this kept free the disk could fill up before anyone is refused: the ballast
/// and what sled's file can grow by.
pub const MIN_FREE_DISK: u64 = BALLAST + GROWTH;

/// The ballast file.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    disk: Disk,
    /// 0 if the store is too small for one.
    size: u64,
    /// It was given up, and is not there again yet.
    given_up: bool,
}

impl Ballast {
    /// The ballast of a store that holds `max_bytes` of entries at most, as it was left.
    pub(crate) fn of(directory: &Path, max_bytes: u64, disk: &Disk) -> Self {
        let size = (max_bytes / 64).min(BALLAST);
        let size = if size < SMALLEST { 0 } else { size };
        Self { path: directory.join("ballast"), disk: disk.clone(), size, given_up: false }
    }

    /// Its size; 0 if there is none.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it was given up, and is not there again yet.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Makes room.
    pub(crate) fn give_up(&mut self) {
        let removed = self.disk.file(Class::Room, &self.path, || fs::remove_file(&self.path));
        if self.size > 0 && removed.is_ok() {
            self.given_up = true;
            tracing::warn!(
                bytes = self.size,
                "the disk is full: gave up the ballast file, to go on delivering"
            );
        }
    }

    /// Makes it, if there is none and the disk has room for it and more.
    pub(crate) fn restore(&mut self, free: u64, min_free: u64) {
        let path = self.path.clone();
        let is_there =
            || Ok::<_, io::Error>(fs::metadata(&path).is_ok_and(|f| f.len() == self.size));
        if self.size == 0 || self.disk.call(Class::Room, is_there).unwrap_or(false) {
            self.given_up = false;
            return;
        }
        if free < min_free.saturating_add(2 * self.size) {
            return;
        }
        match self.make() {
            Ok(()) => self.given_up = false,
            Err(error) => {
                // A file system that cannot reserve room must do without.
                let cannot = error.kind() == io::ErrorKind::Unsupported;
                tracing::warn!(%error, "the ballast file cannot be made");
                drop(self.disk.file(Class::Room, &path, || fs::remove_file(&path)));
                if cannot {
                    (self.size, self.given_up) = (0, false);
                }
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let made = self.disk.call(Class::Room, || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&self.path)?;
            file.set_len(0)?;
            // Its own result, so that its error number is kept.
            Ok::<_, io::Error>(fallocate(&file, FallocateFlags::empty(), 0, self.size))
        });
        match made {
            Ok(made) => Ok(made?),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
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
