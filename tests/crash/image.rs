//! What a disk may hold after its power went, by a strict model.
//!
//! Sure is only what ended before the beginning of a sync of the same file (for names: of their
//! directory) that had ended, too. Of what was asked for after that, each page and each name is
//! there or not, by chance: also a later one without an earlier one.
//!
//! Where the disk forgets, the pages that a failed sync was for are not sure after a later sync,
//! but if they were written again before it. Those that the cache then let go of are not there.

use std::{collections::BTreeMap, fs, path::Path};

use fastrand::Rng;

use crate::recording::{Act, Call, Inode, PAGE, Recording};

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
    for (number, call) in recording.calls.iter().enumerate() {
        if call.start >= cut.at {
            continue;
        }
        match &call.act {
            Act::Write { file, offset, data } => {
                let is_there = |page| match model.pages.fates.get(&(number, page)) {
                    Some(Fate::Sure) => true,
                    Some(Fate::Dropped) => false,
                    None => kept(),
                };
                write(&mut files[*file], *offset, data, is_there);
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
            | Act::FailedSync { .. }
            | Act::Dropped { .. }
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
fn write(file: &mut Vec<u8>, offset: usize, data: &[u8], mut kept: impl FnMut(usize) -> bool) {
    let mut at = 0;
    while at < data.len() {
        let place = offset + at;
        let end = data.len().min(at + PAGE - place % PAGE);
        if kept(place / PAGE) {
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
    pages: Pages,
    files: Vec<u64>,
    folders: BTreeMap<&'a str, u64>,
}

impl<'a> Model<'a> {
    fn new(recording: &'a Recording, at: u64) -> Self {
        let (pages, files) = (Pages::new(recording, at), vec![0; recording.files]);
        let mut model = Self { pages, files, folders: BTreeMap::new() };
        for call in recording.calls.iter().filter(|call| call.end < at) {
            let synced = match &call.act {
                Act::Sync { file } => &mut model.files[*file],
                Act::SyncFolder { path } => model.folders.entry(path).or_default(),
                Act::Write { .. }
                | Act::FailedSync { .. }
                | Act::Dropped { .. }
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

/// What became of a written page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sure,
    /// It never came to the disk, and the cache has let go of it.
    Dropped,
}

/// Writes to a page that are in the cache and may not be on the disk.
#[derive(Debug, Default)]
struct Cached {
    writes: Vec<usize>,
    /// A sync of them failed, and none was added since: no sync is for them.
    lost: bool,
}

/// The pages of all files, as the cache and the disk have them.
#[derive(Debug, Default)]
struct Pages {
    cached: Vec<BTreeMap<usize, Cached>>,
    /// By the number of the call and the page. The others may be there or not.
    fates: BTreeMap<(usize, usize), Fate>,
}

impl Pages {
    fn new(recording: &Recording, at: u64) -> Self {
        let mut pages = Self::default();
        pages.cached.resize_with(recording.files, BTreeMap::new);
        let calls = recording.calls.iter().enumerate();
        let mut moments: Vec<_> = calls
            .filter_map(|(number, call)| {
                // A write is for syncs that begin after it.
                let is_write = matches!(call.act, Act::Write { .. });
                let moment = if is_write { call.end } else { call.start };
                let is_under_way = matches!(call.act, Act::Sync { .. }) && call.end >= at;
                (moment < at && !is_under_way).then_some((moment, number, &call.act))
            })
            .collect();
        moments.sort_unstable_by_key(|(moment, ..)| *moment);
        for (_, number, act) in moments {
            pages.happens(number, act);
        }
        pages
    }

    fn happens(&mut self, number: usize, act: &Act) {
        match act {
            Act::Write { file, offset, data } => {
                for page in offset / PAGE..(offset + data.len()).div_ceil(PAGE) {
                    let cached = self.cached[*file].entry(page).or_default();
                    cached.writes.push(number);
                    cached.lost = false;
                }
            }
            Act::Sync { file } => self.leave(*file, Fate::Sure, |_, cached| !cached.lost),
            Act::FailedSync { file } => {
                self.cached[*file].values_mut().for_each(|cached| cached.lost = true);
            }
            Act::Dropped { file, pages } => {
                self.leave(*file, Fate::Dropped, |page, cached| {
                    cached.lost && pages.contains(&page)
                });
            }
            Act::Truncate { .. }
            | Act::SyncFolder { .. }
            | Act::Create { .. }
            | Act::Rename { .. }
            | Act::Unlink { .. }
            | Act::Mkdir { .. } => {}
        }
    }

    /// Of these pages it is known now what became of them.
    fn leave(&mut self, file: Inode, fate: Fate, which: impl Fn(usize, &Cached) -> bool) {
        let fates = &mut self.fates;
        self.cached[file].retain(|page, cached| {
            let leaves = which(*page, cached);
            if leaves {
                fates.extend(cached.writes.iter().map(|number| ((*number, *page), fate)));
            }
            !leaves
        });
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

#[test]
fn what_a_failed_sync_was_for_is_on_no_disk_until_it_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |page, byte| Act::Write { file: 0, offset: page * PAGE, data: vec![byte; PAGE] };
    let acts = [
        Act::Create { path: "f".into(), file: 0 },
        Act::SyncFolder { path: String::new() },
        write(0, b'a'),
        write(1, b'a'),
        Act::Sync { file: 0 },
        write(0, b'b'),
        write(1, b'b'),
        Act::FailedSync { file: 0 },
        write(1, b'c'),
        Act::Sync { file: 0 },
        Act::Dropped { file: 0, pages: 0..2 },
    ];
    let calls = acts.into_iter().zip((0..).step_by(2));
    let calls = calls.map(|(act, start)| Call { start, end: start + 1, act }).collect();
    let recording = Recording { calls, files: 1 };
    let left = |at, kept| {
        build(&recording, Cut { at, kept, seed: 1 }, folder.path());
        let read = fs::read(folder.path().join("f")).unwrap();
        read.chunks(PAGE).map(|page| char::from(page[0])).collect::<String>()
    };
    assert_eq!(left(16, 0.0), "aa", "the sync failed");
    assert_eq!(left(20, 0.0), "ac", "only what was written again was synced");
    assert_eq!(left(20, 1.0), "bc", "some of it may have come to the disk");
    assert_eq!(left(22, 1.0), "ac", "the cache let go of it");
}
