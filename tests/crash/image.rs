//! What a disk may hold after its power went, by a strict model.
//!
//! Sure is only what ended before the beginning of a sync of the same file (for names: of their
//! directory) that had ended, too. Of what was asked for after that, each page and each name is
//! there or not, by chance: also a later one without an earlier one.

use std::{collections::BTreeMap, fs, path::Path};

use fastrand::Rng;

use crate::recording::{Act, Call, Inode, Recording};

const PAGE: usize = 4096;

/// When, how much of what is not sure survives, and the seed of chance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) at: u64,
    pub(crate) kept: f64,
    pub(crate) seed: u64,
}

/// Builds what is left at `cut` in `folder`.
pub(crate) fn build(recording: &Recording, cut: Cut, folder: &Path) {
    let model = Model::new(recording, cut.at);
    let mut chance = Rng::with_seed(cut.seed);
    let mut kept = || chance.f64() < cut.kept;
    let mut files = vec![Vec::new(); recording.files];
    let mut names: BTreeMap<&str, Inode> = BTreeMap::new();
    let mut folders = Vec::new();
    for call in recording.calls.iter().filter(|call| call.start < cut.at) {
        match &call.act {
            Act::Write { file, offset, data } => {
                let sure = model.is_sure(call, *file);
                write(&mut files[*file], *offset, data, || sure || kept());
            }
            Act::Truncate { file, length } if model.is_sure(call, *file) || kept() => {
                files[*file].resize(*length, 0);
            }
            Act::Create { path, file } if model.is_named(call, path) || kept() => {
                names.insert(path, *file);
            }
            Act::Rename { from, to } if model.is_named(call, to) || kept() => {
                if let Some(file) = names.remove(from.as_str()) {
                    names.insert(to, file);
                }
            }
            Act::Unlink { path } if model.is_named(call, path) || kept() => {
                names.remove(path.as_str());
            }
            Act::Mkdir { path } if model.is_named(call, path) || kept() => folders.push(path),
            Act::Sync { .. }
            | Act::SyncFolder { .. }
            | Act::Truncate { .. }
            | Act::Create { .. }
            | Act::Rename { .. }
            | Act::Unlink { .. }
            | Act::Mkdir { .. } => {}
        }
    }
    for made in folders {
        // A folder in one that was lost is lost with it.
        drop(fs::create_dir(folder.join(made)));
    }
    for (path, file) in names {
        let path = folder.join(path);
        if path.parent().is_some_and(Path::is_dir) {
            fs::write(path, &files[file]).unwrap();
        }
    }
}

/// Writes those of its pages that are kept.
fn write(file: &mut Vec<u8>, offset: usize, data: &[u8], mut kept: impl FnMut() -> bool) {
    let mut at = 0;
    while at < data.len() {
        let place = offset + at;
        let end = data.len().min(at + PAGE - place % PAGE);
        if kept() {
            let part = &data[at..end];
            if file.len() < place + part.len() {
                file.resize(place + part.len(), 0);
            }
            file[place..place + part.len()].copy_from_slice(part);
        }
        at = end;
    }
}

/// What is sure: for each file and folder, when its last completed sync began.
struct Model<'a> {
    files: Vec<u64>,
    folders: BTreeMap<&'a str, u64>,
}

impl<'a> Model<'a> {
    fn new(recording: &'a Recording, at: u64) -> Self {
        let mut model = Self { files: vec![0; recording.files], folders: BTreeMap::new() };
        for call in recording.calls.iter().filter(|call| call.end < at) {
            let synced = match &call.act {
                Act::Sync { file } => &mut model.files[*file],
                Act::SyncFolder { path } => model.folders.entry(path).or_default(),
                Act::Write { .. }
                | Act::Truncate { .. }
                | Act::Create { .. }
                | Act::Rename { .. }
                | Act::Unlink { .. }
                | Act::Mkdir { .. } => continue,
            };
            *synced = (*synced).max(call.start);
        }
        model
    }

    fn is_sure(&self, call: &Call, file: Inode) -> bool {
        call.end < self.files[file]
    }

    fn is_named(&self, call: &Call, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.folders.get(folder).is_some_and(|synced| call.end < *synced)
    }
}

#[test]
fn what_was_not_synced_is_kept_by_chance_and_the_rest_for_sure() {
    let folder = tempfile::tempdir().unwrap();
    let call = |start, act| Call { start, end: start + 1, act };
    let write = |offset, byte| Act::Write { file: 0, offset, data: vec![byte; 2 * PAGE] };
    let calls = vec![
        call(0, Act::Create { path: "f".into(), file: 0 }),
        call(2, Act::SyncFolder { path: String::new() }),
        call(4, write(0, b'a')),
        call(6, Act::Sync { file: 0 }),
        call(8, write(PAGE, b'b')),
        Call { start: 10, end: 13, act: Act::Sync { file: 0 } },
        call(11, write(3 * PAGE, b'c')),
    ];
    let recording = Recording { calls, files: 1 };
    let left = |at, kept| {
        build(&recording, Cut { at, kept, seed: 1 }, folder.path());
        let read = fs::read(folder.path().join("f")).unwrap();
        read.chunks(PAGE).map(|page| char::from(page[0].max(b'0'))).collect::<String>()
    };
    assert_eq!(left(8, 0.0), "aa");
    assert_eq!(left(10, 0.0), "aa", "written, not synced");
    assert_eq!(left(10, 1.0), "abb");
    assert_eq!(left(13, 0.0), "aa", "the sync has not ended");
    assert_eq!(left(14, 0.0), "abb", "begun during the sync");
    assert_eq!(left(14, 1.0), "abbcc");
}
