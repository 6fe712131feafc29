//! A copy of a store to look at: sled changes files when it opens them, and what it does to damaged
//! ones can make them worse.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Directory, Disk, Error, Files, Layout, View,
    directory::{blob, conf_is_lost, make, open_sled, remove_snapshots},
    room,
    trees::Trees,
    wal::Recovered,
};

/// Room to leave on the disk beside a copy.
const SPARE: u64 = 64 * 1024 * 1024;

/// The copy, and what was wrong before sled was asked.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    files: Files,
    original: Files,
    /// In words.
    pub(crate) faults: Vec<String>,
}

fn place(of: &Path) -> Files {
    Files(of.join("verify"))
}

/// Removes what a verification that was cut short left.
pub(crate) fn clear(directory: &Path) -> Result<(), Error> {
    place(directory).remove()
}

impl Copy {
    /// Copies sled's files; what an earlier verification left is removed first.
    pub(crate) fn make(directory: &Directory) -> Result<Self, Error> {
        clear(directory.path())?;
        let (original, copied) = (directory.store(), place(directory.path()));
        let (source, database) = (original.database(), copied.database());
        make(&database)?;
        let files = files(&source).map_err(Error::at(&source))?;
        let bytes: u64 = files.iter().map(|(_, len)| len).sum();
        let free = room::free(directory.path(), &Disk::default());
        if free < bytes.saturating_add(SPARE) {
            let needed = (bytes + SPARE).saturating_sub(free) / (1 << 20) + 1;
            let words = format!("verifying needs room for a copy: free {needed} MiB more");
            return Err(Error::other(words));
        }
        for (file, _) in &files {
            let to = database.join(file.file_name().unwrap_or_default());
            fs::copy(file, to).map_err(Error::at(file))?;
        }
        let mut faults = Vec::new();
        if let Some(blob) = blob(&source)? {
            faults.push(format!("{} should not be there: sled does not sync it", blob.display()));
        }
        if conf_is_lost(&source)? {
            faults.push("sled's file conf is missing or cannot be read".to_owned());
            // What sled has noted there is of no use: it takes what is usual.
            drop(fs::remove_file(database.join("conf")));
        }
        Ok(Self { files: copied, original, faults })
    }

    /// Opens the copy, with what the write-ahead log has as far as it belongs to it; and what is
    /// wrong with that.
    pub(crate) fn open(&self, layout: Layout) -> Result<(View, Vec<String>), Error> {
        self.with_log(open_sled(&self.files.database(), layout, &Disk::default())?)
    }

    /// The same without the entries that sled cannot read, if none of the tree `state` is among them:
    /// nobody would know what is missing there.
    pub(crate) fn open_readable(&self, layout: Layout) -> Result<(View, Vec<String>), Error> {
        let (readable, disk) = (Files(self.files.0.join("readable")), Disk::default());
        make(&readable.database())?;
        let all = open_sled(&self.files.database(), layout, &disk)?;
        let trees = open_sled(&readable.database(), layout, &disk)?;
        all.copy_readable_to(&trees)?;
        self.with_log(trees)
    }

    fn with_log(&self, trees: Trees) -> Result<(View, Vec<String>), Error> {
        let notes = trees.checkpoint().and_then(|point| Ok((trees.store_id()?, point)));
        let fault = match notes {
            Ok((Some(id), checkpoint)) => {
                let recovered = Recovered::read(&self.original.wal(), id, checkpoint)?;
                return Ok((View::over(trees, recovered.commits), recovered.faults));
            }
            Ok((None, _)) => "the store's id is missing".to_owned(),
            Err(Error::Damaged(fault)) => fault,
            Err(error) => return Err(error),
        };
        Ok((View::over(trees, Vec::new()), vec![fault]))
    }

    /// A snapshot only spares reading sled's log; without it sled reads all of that.
    pub(crate) fn remove_snapshots(&self) -> Result<usize, Error> {
        remove_snapshots(&self.files.database(), |_| true)
    }

    /// Removes the copy.
    pub(crate) fn remove(self) -> Result<(), Error> {
        self.files.remove()
    }
}

/// sled's files, and how long they are.
fn files(database: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let torn = entry.file_name().to_string_lossy().ends_with(".generating");
        if entry.file_type()?.is_file() && !torn {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(files)
}
