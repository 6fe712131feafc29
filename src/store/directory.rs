//! The store's directory: its lock, opening sled in it, and swapping one store for another.
//!
//! Owns the settings of sled and what is checked before its file is trusted.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, lchown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::{
    disk::{Class, Disk, durable_flush},
    error::Error,
    trees::{Layout, Trees},
};

/// Of sled's file, for ever. For each segment that sled reads at start it clears and fills a buffer
/// of this size, and it holds a few more while it writes.
pub(super) const SEGMENT_SIZE: usize = 2 * 1024 * 1024;

/// Of pages that were read or written last. Records are read once and in order, so more is of no use.
const CACHE: u64 = 8 * 1024 * 1024;

/// A directory that holds a store, locked by this process.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes the directory if there is none, and locks it.
    pub(crate) fn claim(path: &Path) -> Result<Self, Error> {
        make(path)?;
        let lock = path.join("lock");
        let lock = File::create(&lock).map_err(Error::at(&lock))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(path.to_owned())),
            Err(error) => Err(Error::at(path)(error.into())),
        }
    }

    /// Locks a directory that must be there.
    pub(crate) fn claim_existing(path: &Path) -> Result<Self, Error> {
        fs::metadata(path.join("lock")).and_then(|_| fs::read_dir(path)).map_err(|error| {
            let words = format!("there is no store in {}: {error}", path.display());
            io::Error::new(error.kind(), words)
        })?;
        Self::claim(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The store in it.
    pub(crate) fn store(&self) -> Files {
        store(&self.path)
    }

    /// A store that is being made, to take the place of that one.
    pub(crate) fn next(&self) -> Files {
        Files(self.path.join("store.next"))
    }

    /// Puts a store that was made in the place of this directory's, at once; what was there is where
    /// the other one was, then. There is no moment without a store.
    pub(crate) fn swap(&self, made: &Files) -> Result<(), Error> {
        let (store, made) = (self.store().0, &made.0);
        if store.exists() {
            renameat_with(CWD, &store, CWD, made, RenameFlags::EXCHANGE)
                .map_err(|error| Error::at(made)(error.into()))?;
        } else {
            fs::rename(made, &store).map_err(Error::at(made))?;
        }
        // There the other one is kept.
        made.parent().map_or(Ok(()), sync)?;
        sync(&self.path)
    }

    /// Gives what was made in here to the owner of the directory: a repair is run by root.
    pub(crate) fn give_to_owner(&self, made: &Path) -> Result<(), Error> {
        let owner = fs::metadata(&self.path).map_err(Error::at(&self.path))?;
        let metadata = fs::symlink_metadata(made).map_err(Error::at(made))?;
        if (metadata.uid(), metadata.gid()) != (owner.uid(), owner.gid()) {
            lchown(made, Some(owner.uid()), Some(owner.gid())).map_err(Error::at(made))?;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(made).map_err(Error::at(made))? {
                self.give_to_owner(&entry?.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Directory {
    /// To close the file is not enough: a child that another thread is just starting has it open,
    /// and with it the lock, until it becomes the other program.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the store's lock was not let go of");
        }
    }
}

/// How long opening the store in a directory may take: a slow disk is read through once, with
/// something to spare.
pub(crate) fn patience(directory: &Path) -> Duration {
    let file = store(directory).database().join("db");
    let bytes = fs::metadata(file).map_or(0, |file| file.blocks() * 512);
    Duration::from_secs(60 + bytes / (4 << 20))
}

fn store(directory: &Path) -> Files {
    Files(directory.join("store"))
}

/// The files of one store.
#[derive(Debug, Clone)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    /// sled's directory.
    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("sled")
    }

    /// The write-ahead log.
    pub(crate) fn wal(&self) -> PathBuf {
        self.0.join("wal")
    }

    /// Someone may have been told that something is stored here.
    pub(crate) fn were_used(&self) -> bool {
        fs::metadata(self.wal()).is_ok_and(|file| file.len() > 0)
    }

    /// Removes all of them.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        removed(&self.0, fs::remove_dir_all(&self.0))
    }

    /// Notes that what the system keeps in memory of these files may not be what the disk has. The
    /// note itself need be in memory only: when that is lost, so is what it warns of.
    pub(crate) fn distrust_cache(&self) {
        drop(File::create(self.distrusted()));
    }

    /// The same, if a sync of sled's file failed.
    pub(crate) fn distrust_what_failed(&self) {
        if durable_flush::has_failed(&self.database().join("db")) {
            self.distrust_cache();
        }
    }

    /// The store was opened, and everything that this took was read from the disk.
    pub(super) fn trust_cache(&self) {
        drop(fs::remove_file(self.distrusted()));
    }

    fn distrusted(&self) -> PathBuf {
        self.0.join("reread")
    }

    /// Opens sled, or makes it; what it leaves behind in a crash is cleared away.
    pub(super) fn open(&self, layout: Layout, disk: &Disk) -> Result<Trees, Error> {
        let database = self.database();
        disk.call(Class::Open, || self.prepare(&database))?;
        let trees = open_sled(&database, layout, disk)?;
        match self.sync_files(disk).and_then(|()| has_no_blob(&database)) {
            Ok(()) => Ok(trees),
            Err(error) => {
                trees.let_go();
                Err(error)
            }
        }
    }

    fn prepare(&self, database: &Path) -> Result<(), Error> {
        make(database)?;
        let (conf, db) = (database.join("conf"), database.join("db"));
        if !self.were_used() {
            // A crash can have left it in any state; sled makes it anew.
            removed(&conf, fs::remove_file(&conf))?;
        } else if conf_is_lost(database)? {
            // sled would take another size of segments for it, and clear what does not fit that.
            return Err(Error::Damaged("sled's file conf is missing or cannot be read".to_owned()));
        }
        durable_flush::open(&db, self.distrusted().exists()).map_err(Error::at(&db))?;
        remove_snapshots(database, |name| name.ends_with(".generating")).map(drop)
    }

    /// Syncs what sled does not: its small files and the directories.
    pub(super) fn sync_files(&self, disk: &Disk) -> Result<(), Error> {
        let database = self.database();
        let directories = self.0.ancestors().take(3).filter(|path| !path.as_os_str().is_empty());
        let files = [database.join("conf"), database.join("db"), database];
        disk.call(Class::Write, || {
            files.iter().map(PathBuf::as_path).chain(directories).try_for_each(sync)
        })
    }
}

fn has_no_blob(database: &Path) -> Result<(), Error> {
    match blob(database)? {
        None => Ok(()),
        Some(blob) => Err(Error::Damaged(format!("{} is not empty", blob.display()))),
    }
}

/// Makes a directory, and those above it.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::at(path))
}

fn sync(path: &Path) -> Result<(), Error> {
    durable_flush::sync_path(path).map_err(Error::at(path))
}

/// What was not there is removed, too.
fn removed(path: &Path, result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A snapshot that a crash left half written is refused by sled; without it, sled reads its log.
/// Removes those whose name is like this; their number.
pub(super) fn remove_snapshots(
    database: &Path,
    like: impl Fn(&str) -> bool,
) -> Result<usize, Error> {
    let mut count = 0;
    for file in fs::read_dir(database).map_err(Error::at(database))? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && like(&name) {
            tracing::info!(file = %name, "removes a snapshot of sled's");
            removed(&file.path(), fs::remove_file(file.path()))?;
            count += 1;
        }
    }
    Ok(count)
}

/// There is a database, but the size of its segments is not known. sled notes it in a file, `conf`,
/// which it only warns of when its checksum is wrong.
pub(super) fn conf_is_lost(database: &Path) -> Result<bool, Error> {
    let conf = database.join("conf");
    let noted = match fs::read(&conf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        conf_bytes => conf_bytes.map_err(Error::at(&conf))?,
    };
    let used = fs::metadata(database.join("db")).is_ok_and(|file| file.len() > 0);
    Ok(used && !noted.starts_with(format!("segment_size: {SEGMENT_SIZE}\n").as_bytes()))
}

/// A file that sled made for a large leaf, which it never syncs. The bound of entries prevents it.
pub(super) fn blob(database: &Path) -> Result<Option<PathBuf>, Error> {
    let blobs = database.join("blobs");
    match fs::read_dir(&blobs) {
        Ok(mut entries) => Ok(entries.next().transpose()?.map(|blob| blob.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::at(&blobs)(error)),
    }
}

/// Opens sled; if it cannot read its snapshot, without that: it only spares reading the log.
pub(super) fn open_sled(database: &Path, layout: Layout, disk: &Disk) -> Result<Trees, Error> {
    match open_when_free(database, layout, disk) {
        Err(Error::Damaged(why)) if remove_snapshots(database, |_| true)? > 0 => {
            tracing::warn!(%why, "sled cannot read its snapshot; it reads its log instead");
            open_when_free(database, layout, disk)
        }
        opened => opened,
    }
}

/// Threads of a handle that was just dropped may hold sled's own lock a moment longer: other
/// processes are kept out by ours.
#[expect(clippy::disallowed_methods, reason = "not on an async thread; there is nothing to await")]
pub(super) fn open_when_free(database: &Path, layout: Layout, disk: &Disk) -> Result<Trees, Error> {
    let config = sled::Config::new()
        .path(database)
        .cache_capacity(CACHE)
        .flush_every_ms(Some(500))
        .segment_size(SEGMENT_SIZE);
    let mut tries = 0..100;
    loop {
        match Trees::open(&config, layout, disk) {
            Err(Error::Io(error))
                if error.to_string().contains("acquire lock") && tries.next().is_some() =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            // sled panics on files that it did not write so.
            Err(Error::Panicked(words)) => {
                return Err(Error::Damaged(format!("sled panicked: {words}")));
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_again_though_a_child_being_started_has_its_lock_open() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::claim(folder.path()).unwrap();
        // What a fork makes of it, until the other program is executed.
        let _inherited = directory.lock.try_clone().unwrap();
        assert!(matches!(Directory::claim(folder.path()), Err(Error::Locked(_))));
        drop(directory);
        Directory::claim(folder.path()).unwrap();
    }

    #[test]
    fn the_size_of_segments_is_what_sled_noted_or_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(!conf_is_lost(path).unwrap());
        let db = sled::Config::new().path(path).segment_size(SEGMENT_SIZE).open().unwrap();
        db.insert("key", "value").unwrap();
        db.flush().unwrap();
        assert!(!conf_is_lost(path).unwrap());
        for damaged in ["segment_size: 2097153\n", "segment_size: 20971520\n", "segment_siz", ""] {
            fs::write(path.join("conf"), damaged).unwrap();
            assert!(conf_is_lost(path).unwrap(), "{damaged}");
        }
        fs::remove_file(path.join("conf")).unwrap();
        assert!(conf_is_lost(path).unwrap());
        // What the file system says is not damage.
        fs::create_dir(path.join("conf")).unwrap();
        assert!(matches!(conf_is_lost(path), Err(Error::Io(_))));
    }
}
