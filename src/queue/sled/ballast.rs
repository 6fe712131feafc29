//! A file that only takes up room: on a full disk it is given up, so that sled can write what is
//! settled and delivery goes on. It is made again once there is room for twice as much.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

/// Its size where `max_bytes` is large enough: sixteen segments of sled.
const LARGEST: u64 = 32 * 1024 * 1024;
/// Below this it would not help.
const SMALLEST: u64 = 16 * 1024 * 1024;

/// The file.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// 0 if the store is too small for one.
    pub(super) size: u64,
    /// It was given up, and is not there again yet.
    pub(super) given_up: bool,
}

impl Ballast {
    /// The ballast of a store with this limit, as it was left.
    pub(super) fn of(directory: &Path, max_bytes: u64) -> Self {
        let size = (max_bytes / 64).min(LARGEST);
        let size = if size < SMALLEST { 0 } else { size };
        Self { path: directory.join("ballast"), size, given_up: false }
    }

    fn there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == self.size)
    }

    /// Makes room.
    pub(super) fn give_up(&mut self) {
        if self.size > 0 && fs::remove_file(&self.path).is_ok() {
            self.given_up = true;
            tracing::warn!(
                bytes = self.size,
                "the disk is full: gave up the ballast file, to go on delivering"
            );
        }
    }

    /// Makes it, if there is none and the disk has room for it and more.
    pub(super) fn restore(&mut self, free: u64, min_free: u64) {
        if self.size == 0 || self.there() {
            self.given_up = false;
            return;
        }
        if free < min_free.saturating_add(2 * self.size) {
            return;
        }
        match self.make() {
            Ok(()) => self.given_up = false,
            Err(error) => {
                // A file system that cannot reserve room (EOPNOTSUPP) must do without.
                let cannot = error.kind() == io::ErrorKind::Unsupported;
                tracing::warn!(%error, "the ballast file cannot be made");
                drop(fs::remove_file(&self.path));
                if cannot {
                    (self.size, self.given_up) = (0, false);
                }
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        file.set_len(0)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.size)?;
        Ok(())
    }
}
