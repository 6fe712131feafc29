//! The store on a real disk.

mod faults;
mod files;
mod overlay;
mod property;

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    codec::{FRAME, Kind, seal},
    directory::Directory,
    *,
};

const LAYOUT: Layout = Layout { ids: b"i", state: b"s", chunked: b"ls" };

impl View {
    /// A view of an empty store that is nowhere.
    pub(crate) fn temporary(layout: Layout) -> Self {
        let config = sled::Config::new().temporary(true);
        let trees = Trees::open(&config, layout, &Disk::default()).unwrap();
        Self::over(trees, Vec::new())
    }
}

/// A directory with a store in it.
struct Bench {
    folder: TempDir,
    directory: Directory,
    disk: Disk,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::claim(folder.path()).unwrap();
        Self { folder, directory, disk: Disk::default() }
    }

    fn files(&self) -> Files {
        self.directory.store()
    }

    fn try_open(&self) -> Result<Store, Error> {
        Store::open(&self.files(), LAYOUT, &self.disk)
    }

    fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    fn why_not(&self) -> Error {
        self.try_open().map(drop).unwrap_err()
    }
}

/// A value of this many bytes of payload.
fn value(len: usize, stamp: u8) -> Vec<u8> {
    seal(Kind::new(1), [vec![0; FRAME], vec![stamp; len]].concat())
}

fn put(key: impl Into<Vec<u8>>, value: Vec<u8>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

/// Everything under this first byte, chunked values whole.
fn all(view: &View, first: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let whole = |entry: Result<(Slice, Slice), Error>| {
        let (key, value) = entry.unwrap();
        let whole = chunked::whole(view, &key, &value).unwrap().unwrap().unwrap();
        (key.to_vec(), whole.into_owned())
    };
    view.scan_prefix(&[first]).map(whole).collect()
}

fn parts(view: &View) -> usize {
    view.scan_prefix(&[PARTS]).count()
}

/// Copies what is in a folder into another one.
fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
