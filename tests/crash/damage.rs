//! Files that are not as they were written: bytes flipped, pages lost, files cut, swapped, removed.
//!
//! A store that is damaged like that is refused, with what is wrong; or all that was answered is
//! in it. It never has anything wrong in it, and never silently less.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use fastrand::Rng;
use tempfile::TempDir;

use crate::{
    ledger::Expected,
    power::quick_folder,
    recording::PAGE,
    report, rounds, side_by_side,
    verify::{Fault, verify},
    workload::Workload,
};

/// All files of a store.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A store that was closed, the same earlier, another one, and what it must hold.
struct Stores {
    now: Files,
    earlier: Files,
    other: Files,
    expected: Expected,
}

impl Stores {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        let earlier = grown(&mine, 1);
        let now = grown(&mine, 2);
        let ledger = fs::read_to_string(mine.join("ledger")).unwrap();
        Self { now, earlier, other: grown(&other, 3), expected: Expected::read(&ledger) }
    }
}

/// The store after another workload on it.
fn grown(folder: &Path, seed: u64) -> Files {
    let (folder, ledger) = (folder.to_owned(), folder.join("ledger"));
    fs::create_dir_all(&folder).unwrap();
    let workload = Workload { folder: folder.clone(), ledger, seed, events: 300, sick: false };
    let status = workload.command().stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "the workload failed");
    let mut files = Files::new();
    read(&folder, Path::new("queue"), &mut files);
    files
}

fn read(folder: &Path, inside: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let path = inside.join(entry.file_name());
        if entry.path().is_dir() {
            read(folder, &path, files);
        } else {
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

fn write(files: &Files) -> TempDir {
    let folder = quick_folder();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Does some damage, and says what.
fn harm(stores: &Stores, chance: &mut Rng) -> (Files, String) {
    let mut files = stores.now.clone();
    let full = |path: &&PathBuf| !files[*path].is_empty();
    let small: Vec<PathBuf> = files.keys().filter(full).cloned().collect();
    // Most of what can be damaged is the database.
    let database = PathBuf::from("queue/store/sled/db");
    let path = if chance.u8(..) < 160 { database } else { chance.choice(&small).unwrap().clone() };
    let length = files[&path].len();
    let place = chance.usize(..length);
    let name = path.display();
    let said = match chance.u8(0..12) {
        0..3 => {
            files.get_mut(&path).unwrap()[place] ^= 1 << chance.u8(0..8);
            format!("a bit at {place} of {name}")
        }
        3..6 => {
            let end = length.min(place + 16);
            chance.fill(&mut files.get_mut(&path).unwrap()[place..end]);
            format!("bytes from {place} of {name}")
        }
        6 => {
            files.get_mut(&path).unwrap().truncate(place);
            format!("{name} cut at {place}")
        }
        7 => {
            let (start, end) = (place - place % PAGE, length.min(place - place % PAGE + PAGE));
            files.get_mut(&path).unwrap()[start..end].fill(0);
            format!("zeros from {start} of {name}")
        }
        8 => {
            let bytes = files.get_mut(&path).unwrap();
            let (from, to) = (place - place % PAGE, chance.usize(..length) / PAGE * PAGE);
            let moved = PAGE.min(length - from).min(length - to);
            bytes.copy_within(from..from + moved, to);
            format!("the page at {from} also at {to} of {name}")
        }
        9 => {
            files.remove(&path);
            format!("no {name}")
        }
        10 => {
            let (words, from) = chance
                .choice([("earlier", &stores.earlier), ("another's", &stores.other)])
                .unwrap();
            match from.get(&path) {
                Some(bytes) => files.insert(path.clone(), bytes.clone()),
                None => files.remove(&path),
            };
            format!("{name} is {words}")
        }
        _ => {
            let with = chance.choice(&small).unwrap();
            let (one, two) = (files[&path].clone(), files[with].clone());
            files.insert(path.clone(), two);
            files.insert(with.clone(), one);
            format!("{name} and {} exchanged", with.display())
        }
    };
    (files, said)
}

#[test]
fn a_damaged_store_opens_whole_or_says_what_is_wrong() {
    let stores = Stores::new();
    let whole = write(&stores.now);
    verify(whole.path(), &stores.expected).expect("whole before it is damaged");
    let seeds: Vec<u64> = (0..u64::try_from(rounds(40, 200)).unwrap()).collect();
    let (mut opened, mut refused, mut faults) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    let outcomes = side_by_side(&seeds, |seed| {
        let (files, said) = harm(&stores, &mut Rng::with_seed(*seed));
        let folder = write(&files);
        (said, verify(folder.path(), &stores.expected))
    });
    for (seed, (said, outcome)) in outcomes {
        match outcome {
            Ok(()) => opened += 1,
            Err(Fault::Refused(why)) => {
                let kind: String = why.chars().take(50).collect();
                *refused.entry(kind).or_default() += 1;
            }
            Err(fault) => faults.push(format!("seed {seed}, {said}: {fault}")),
        }
    }
    let told: usize = refused.values().sum();
    report(&format!(
        "damage: {} stores, {opened} opened whole, {told} refused, {} faults\n{refused:#?}",
        seeds.len(),
        faults.len()
    ));
    assert!(opened > 0 && told > 0, "only one of both was tried");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
