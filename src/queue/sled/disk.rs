//! The database on disk: opening, proving and closing it.
//!
//! Owns the settings of sled and what is checked before anything is trusted. What the values mean
//! is [`super::load`]'s.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    OpenError,
    database::Db,
    durable_flush, entry, journal, keys, mark,
    segments::{self, SEGMENT_SIZE},
};

/// Of pages that were read or written last. Records are read once and in order, so more is of no use.
const CACHE: u64 = 8 * 1024 * 1024;

/// Where a verification keeps its copy.
pub(super) const COPY: &str = "verify";

/// The directory, held by this process alone.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    lock: File,
}

impl Place {
    /// Makes the directory if there is none, and locks it.
    pub(super) fn claim(directory: &Path) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::create(directory.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory: directory.to_owned(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(directory.to_owned())),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Locks a directory that must be there.
    pub(super) fn claim_existing(directory: &Path) -> Result<Self, OpenError> {
        fs::metadata(directory.join("lock")).and_then(|_| fs::read_dir(directory)).map_err(
            |error| {
                let words = format!("there is no store in {}: {error}", directory.display());
                io::Error::new(error.kind(), words)
            },
        )?;
        Self::claim(directory)
    }

    /// The whole of it.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// sled's part of it.
    pub(super) fn database(&self) -> PathBuf {
        self.directory.join("sled")
    }

    /// How long opening it may take.
    pub(super) fn patience(&self) -> Duration {
        patience(&self.directory)
    }

    /// Opens the database and proves that a flush reaches the disk.
    pub(super) fn open(&self) -> Result<Db, OpenError> {
        let database = self.database();
        DirBuilder::new().recursive(true).mode(0o700).create(&database)?;
        remove_torn_snapshots(&database)?;
        // Of a verification that was cut short.
        let copy = self.directory.join(COPY);
        if copy.exists() {
            fs::remove_dir_all(copy)?;
        }
        if segments::is_lost(&database)? && self.was_opened_before() {
            // sled would take another size for it, and clear what does not fit that.
            return Err(OpenError::Damaged(
                "sled's file conf is missing or cannot be read".to_owned(),
            ));
        }
        let db = match open_when_free(&database) {
            Err(OpenError::Damaged(why)) if remove_snapshots(&database)? > 0 => {
                // A snapshot only spares reading the log.
                tracing::warn!(%why, "sled cannot read its snapshot; it reads its log instead");
                open_when_free(&database)
            }
            opened => opened,
        }?;
        for path in [&database.join("conf"), &database.join("db"), &database, &self.directory] {
            File::open(path)?.sync_all()?;
        }
        if let Some(parent) = self.directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        refuse_blobs(&database)?;
        Ok(db)
    }

    /// Someone may have been told that something is stored here.
    pub(super) fn was_opened_before(&self) -> bool {
        let files = [journal::path(&self.directory), mark::path(&self.directory)];
        files.iter().any(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0))
    }
}

/// How long opening the store in this directory may take: a slow disk is read through once, with
/// something to spare.
pub(super) fn patience(directory: &Path) -> Duration {
    let db = directory.join("sled/db");
    let bytes = fs::metadata(db).map_or(0, |file| file.blocks() * 512);
    Duration::from_secs(60 + bytes / (4 << 20))
}

impl Drop for Place {
    /// To close the file is not enough: a child that another thread is just starting has it open,
    /// and with it the lock, until it becomes the other program.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the store's lock was not let go of");
        }
    }
}

/// A snapshot that a crash left half written is refused by sled; without it, sled reads its log.
fn remove_torn_snapshots(database: &Path) -> Result<(), OpenError> {
    for file in fs::read_dir(database)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removed a snapshot that was not finished");
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Removes all snapshots; so many there were.
pub(super) fn remove_snapshots(database: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for file in fs::read_dir(database)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(file.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Threads of a handle that was just dropped may hold sled's own lock a moment longer. Other
/// processes are kept out by ours.
pub(super) fn open_when_free(database: &Path) -> Result<Db, OpenError> {
    open_with_segments(database, segments::noted(database)?.unwrap_or(SEGMENT_SIZE))
}

/// The same, or a new one with segments of this size.
#[expect(clippy::disallowed_methods, reason = "not on an async thread; there is nothing to await")]
pub(super) fn open_with_segments(database: &Path, size: usize) -> Result<Db, OpenError> {
    for _ in 0..100 {
        match open_sled(database, size) {
            Err(OpenError::Io(error)) if error.to_string().contains("acquire lock") => {
                thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
    open_sled(database, size)
}

fn open_sled(database: &Path, segment_size: usize) -> Result<Db, OpenError> {
    let config = sled::Config::new()
        .path(database)
        .cache_capacity(CACHE)
        .flush_every_ms(Some(500))
        .segment_size(segment_size);
    match catch_unwind(AssertUnwindSafe(|| Db::open(&config))) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(error.into()),
        Err(panic) => Err(OpenError::Damaged(format!("sled panicked: {}", words(&*panic)))),
    }
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Writes and flushes, and looks whether that synced the file.
pub(super) fn prove(db: &Db) -> Result<(), OpenError> {
    let before = durable_flush::syncs();
    let starts = match db.get(keys::STARTED)? {
        Some(value) => {
            entry::decode_number(&value).map_err(|e| OpenError::damaged("m|started", e))?
        }
        None => 0,
    };
    db.insert(keys::STARTED, entry::encode_number(starts.wrapping_add(1)))?;
    db.flush()?;
    if durable_flush::syncs() == before { Err(OpenError::NotDurable) } else { Ok(()) }
}

/// sled never syncs these files; the size of records keeps it from making any.
fn refuse_blobs(database: &Path) -> Result<(), OpenError> {
    let blobs = database.join("blobs");
    if blobs.is_dir() && fs::read_dir(&blobs)?.next().is_some() {
        return Err(OpenError::Damaged(format!("{} is not empty", blobs.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_again_though_a_child_being_started_has_its_lock_open() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::claim(directory.path()).unwrap();
        // What a fork makes of it, until the other program is executed.
        let _inherited = place.lock.try_clone().unwrap();
        assert!(matches!(Place::claim(directory.path()), Err(OpenError::Locked(_))));
        drop(place);
        Place::claim(directory.path()).unwrap();
    }
}
