use std::fs;

use tempfile::TempDir;

use super::{half::HALF, *};

const STORE: [u8; 16] = [7; 16];

/// A store's directory.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn db(&self) -> Db {
        Db::open(&sled::Config::new().path(self.0.path().join("sled"))).unwrap()
    }

    fn open(&self, db: &Db) -> Result<Journal, OpenError> {
        Journal::open(self.0.path(), db, STORE)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = path(self.0.path());
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn refused(&self, db: &Db) -> String {
        self.open(db).unwrap_err().to_string()
    }
}

/// A database that has nothing of what the journal has.
fn empty_db(noted: u64) -> Db {
    let db = Db::open(&sled::Config::new().temporary(true)).unwrap();
    db.note_journal(noted).unwrap();
    db
}

/// Sixteen of these are a page of sled; a larger one would become a file of its own.
const MOST: usize = 4 * 1024;

/// An entry, or several that begin with this key, and have so many bytes in all.
fn set(key: u32, len: usize) -> Entries {
    let lens = (0..len).step_by(MOST).map(|begin| MOST.min(len - begin));
    let keys = (0_u32..).map(|part| [key.to_be_bytes(), part.to_be_bytes()].concat());
    keys.zip(lens).map(|(key, len)| (key, Some(vec![1; len]))).collect()
}

/// Bytes under this key.
fn value(db: &Db, key: u32) -> Option<usize> {
    let values = db.scan_prefix(&key.to_be_bytes()).map(|entry| entry.unwrap().1.len());
    values.reduce(|sum, len| sum + len)
}

#[test]
fn what_sled_lost_it_gets_back_in_order() {
    let bench = Bench::new();
    let db = bench.db();
    let mut journal = bench.open(&db).unwrap();
    for (key, len) in [(1, 10), (2, 20), (1, 11)] {
        journal.commit(&db, set(key, len)).unwrap();
    }
    let gone = set(2, 20).into_iter().map(|(key, _)| (key, None)).collect();
    journal.commit(&db, gone).unwrap();
    drop(journal);
    let lost = empty_db(2);
    drop(bench.open(&lost).unwrap());
    assert_eq!((value(&lost, 1), value(&lost, 2)), (Some(11), None));
}

#[test]
fn it_goes_round_and_keeps_what_sled_may_not_have() {
    let bench = Bench::new();
    let db = bench.db();
    let mut journal = bench.open(&db).unwrap();
    let len = HALF / 10;
    for key in 0..100 {
        journal.commit(&db, set(key, len)).unwrap();
        assert!((journal.generation - 1..=journal.generation).contains(&noted(&db).unwrap()));
    }
    drop(journal);
    let lost = empty_db(noted(&db).unwrap());
    drop(bench.open(&lost).unwrap());
    let kept = (0..100).filter(|key| value(&lost, *key) == Some(len)).count();
    assert!((10..20).contains(&kept), "{kept}");
    assert!((100 - 10..100).all(|key| value(&lost, key).is_some()));
}

#[test]
fn a_commit_that_is_too_large_for_it_is_durable_in_sled_and_not_undone() {
    let bench = Bench::new();
    let db = bench.db();
    let mut journal = bench.open(&db).unwrap();
    journal.commit(&db, set(1, 10)).unwrap();
    let mut large: Entries = (2..102).flat_map(|key| set(key, HALF / 99)).collect();
    large.extend(set(1, 11));
    journal.commit(&db, large).unwrap();
    drop(journal);
    drop(bench.open(&db).unwrap());
    assert_eq!((value(&db, 1), value(&db, 101)), (Some(11), Some(HALF / 99)));
}

#[test]
fn opened_again_and_again_and_cleared_it_stays_in_step() {
    let bench = Bench::new();
    let db = bench.db();
    for round in 0..5 {
        let mut journal = bench.open(&db).unwrap();
        journal.commit(&db, set(round, 5)).unwrap();
        if round % 2 == 0 {
            journal.clear(&db).unwrap();
        }
    }
    assert!((0..5).all(|key| value(&db, key) == Some(5)));
}

#[test]
fn one_that_is_not_right_is_refused_with_what_is_wrong() {
    type Change = fn(&mut Vec<u8>);
    let cases: &[(&str, Change)] = &[
        ("is cut short", |bytes| bytes.truncate(HALF)),
        ("is missing", Vec::clear),
        ("half of the journal is missing", |bytes| bytes[HALF..HALF + START].fill(0)),
        ("the beginning of a half", |bytes| bytes[8] ^= 1),
        ("a commit in the journal is damaged", |bytes| bytes[HALF + START + 30] ^= 1),
        ("mixed up", |bytes| bytes.rotate_left(HALF)),
    ];
    for (words, change) in cases {
        let bench = Bench::new();
        let db = bench.db();
        let mut journal = bench.open(&db).unwrap();
        // Fills the second half a little, after the first.
        for key in 0..12 {
            journal.commit(&db, set(key, HALF / 10)).unwrap();
        }
        drop(journal);
        bench.change(change);
        let told = bench.refused(&db);
        assert!(told.contains(words), "{told} does not say {words}");
    }
}

#[test]
fn one_of_another_store_or_time_is_refused() {
    let bench = Bench::new();
    let db = bench.db();
    drop(bench.open(&db).unwrap());
    let told = Journal::open(bench.0.path(), &db, [8; 16]).unwrap_err().to_string();
    assert!(told.contains("another store's"), "{told}");
    let earlier = fs::read(path(bench.0.path())).unwrap();
    let noted_then = noted(&db).unwrap();
    drop(bench.open(&db).unwrap());
    drop(bench.open(&db).unwrap());
    let told = bench.refused(&empty_db(noted_then));
    assert!(told.contains("of the same time"), "{told}");
    bench.change(|bytes| *bytes = earlier);
    let told = bench.refused(&db);
    assert!(told.contains("of the same time"), "{told}");
    fs::remove_file(path(bench.0.path())).unwrap();
    assert!(bench.refused(&db).contains("is missing"));
}
