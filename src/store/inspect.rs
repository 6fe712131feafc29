//! A copy of a store to look at: sled changes files when it opens them, and what it does to damaged
//! ones can make them worse.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    Directory, Disk, Error, Files, Layout, View,
    directory::{conf_is_lost, open_when_free, remove_snapshots},
    owner, room, slices,
    trees::blob,
    wal::Recovered,
};

/// Room to leave on the disk beside a copy.
const SPARE: u64 = 64 * 1024 * 1024;

/// The copy, and what was wrong before sled was asked.
#[derive(Debug)]
pub(crate) struct Copy {
    files: Files,
    original: Files,
    /// In words.
    pub(crate) faults: Vec<String>,
}

fn place(of: &Path) -> PathBuf {
    of.join("verify")
}

/// Removes what a verification that was cut short left.
pub(crate) fn clear(directory: &Path) -> Result<(), Error> {
    Files(place(directory)).remove()
}

/// Opens a copy.
#[derive(Debug)]
pub(crate) struct Opener {
    files: Files,
    original: Files,
}

impl Copy {
    /// Copies sled's files; what an earlier verification left is removed first.
    pub(crate) fn make(directory: &Directory) -> Result<Self, Error> {
        clear(directory.path())?;
        let (original, copied) = (directory.store(), Files(place(directory.path())));
        let database = copied.database();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&database)
            .map_err(Error::at(&database))?;
        let source = original.database();
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
        if let Some(blob) = blob(&source).map_err(Error::at(&source))? {
            faults.push(format!("{} should not be there: sled does not sync it", blob.display()));
        }
        if conf_is_lost(&source)? {
            faults.push("sled's file conf is missing or cannot be read".to_owned());
            // What sled has noted there is of no use: it takes what is usual.
            drop(fs::remove_file(database.join("conf")));
        }
        Ok(Self { files: copied, original, faults })
    }

    /// What opens it, on another thread.
    pub(crate) fn opener(&self) -> Opener {
        Opener { files: self.files.clone(), original: self.original.clone() }
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

impl Opener {
    /// Opens the copy, with what the write-ahead log has as far as it belongs to it; and what is
    /// wrong with that.
    pub(crate) fn open(&self, layout: Layout) -> Result<(View, Vec<String>), Error> {
        let trees = open_when_free(&self.files.database(), layout, &Disk::default())?;
        let view = View::new(trees);
        let owner = match owner(&view.trees) {
            Ok(Some(owner)) => owner,
            Ok(None) => return Ok((view, vec!["the store's id is missing".into()])),
            Err(Error::Damaged(fault)) => return Ok((view, vec![fault])),
            Err(error) => return Err(error),
        };
        let recovered = Recovered::read(&self.original.wal(), owner)?;
        if recovered.is_ours() {
            for batch in recovered.commits {
                view.memtable.apply(slices(batch));
            }
        }
        Ok((view, recovered.faults))
    }
}

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
