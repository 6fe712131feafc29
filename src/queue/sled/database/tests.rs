use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::*;

const KEYS: [&[u8]; 9] =
    [b"c|a", b"d|1", b"e|1", b"m|next", b"m|store", b"p|e|1|1", b"r|1", b"x|1", b"y|1"];

fn counts(db: &Db) -> Vec<usize> {
    db.trees().into_iter().map(Tree::len).collect()
}

#[test]
fn a_first_store_is_sorted_also_after_a_crash_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new().path(folder.path().join("sled"));
    let sled = config.open().unwrap();
    for key in KEYS {
        sled.insert(key, key).unwrap();
    }
    // Some were sorted before a crash.
    sled.open_tree(IDS).unwrap().insert(b"d|1", b"d|1").unwrap();
    sled.open_tree(STATE).unwrap().insert(b"c|a", b"c|a").unwrap();
    drop(sled);
    for _ in 0..2 {
        let db = loop {
            // The threads of the one before hold the lock a moment longer.
            if let Ok(db) = Db::open(&config) {
                break db;
            }
        };
        assert!(KEYS.iter().all(|key| db.get(key).unwrap().unwrap() == key));
        assert_eq!(counts(&db), [2, 1, 6]);
    }
}

#[test]
fn entries_of_all_trees_are_written_at_once() {
    let db = Db::open(&Config::new().temporary(true)).unwrap();
    db.insert(b"e|2", b"").unwrap();
    let mut entries: Entries = KEYS.iter().map(|key| (key.to_vec(), Some(vec![1]))).collect();
    entries.push((b"e|2".to_vec(), None));
    db.write_at_once(&entries).unwrap();
    assert_eq!(counts(&db), [2, 1, 6]);
    assert_eq!(db.range(keys::all(keys::EVENTS)).count(), 1);
}

/// Keys of the state: the first byte counts.
fn key(number: u8) -> Vec<u8> {
    vec![keys::RETRIES, b'|', number]
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, bool)>),
    Freeze,
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec((0_u8..24, any::<bool>()), 1..8).prop_map(Step::Commit),
        1 => Just(Step::Freeze),
        1 => Just(Step::HandOver),
    ]
}

/// All that is there, read from both ends by turns.
fn from_both_ends(db: &Db, low: u8, high: u8, turns: &[bool]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut range = db.range(key(low)..key(high));
    for forward in turns.iter().cycle() {
        let next = if *forward { range.next() } else { range.next_back() };
        let Some(entry) = next else { break };
        let (key, value) = entry.unwrap();
        let end = if *forward { &mut front } else { &mut back };
        end.push((key.to_vec(), value.to_vec()));
    }
    front.extend(back.into_iter().rev());
    front
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_sled_has_by_now_all_that_was_taken_is_there(
        steps in vec(step(), 1..40),
        ends in (0_u8..24, 0_u8..24),
        turns in vec(any::<bool>(), 1..5),
    ) {
        let db = Db::open(&Config::new().temporary(true)).unwrap();
        let mut all = BTreeMap::new();
        for (count, step) in (0_u8..).zip(steps) {
            match step {
                Step::Commit(changes) => {
                    let value = |is_set: bool| is_set.then(|| vec![count]);
                    let changes = changes.into_iter().map(|(n, is_set)| (key(n), value(is_set)));
                    let entries: Entries = changes.collect();
                    for (key, value) in entries.clone() {
                        match value {
                            Some(value) => all.insert(key, value),
                            None => all.remove(&key),
                        };
                    }
                    db.take(entries);
                }
                Step::Freeze => db.freeze(),
                Step::HandOver => db.hand_over(1).unwrap(),
            }
            let (low, high) = ends;
            let within = |(k, v): (&Vec<u8>, &Vec<u8>)| {
                (key(low) <= *k && *k < key(high)).then(|| (k.clone(), v.clone()))
            };
            let there: Vec<_> = all.iter().filter_map(within).collect();
            prop_assert_eq!(from_both_ends(&db, low, high, &turns), there);
            for number in 0..24 {
                let value = db.get(key(number)).unwrap().map(|value| value.to_vec());
                prop_assert_eq!(value.as_ref(), all.get(&key(number)));
            }
        }
        // Everything that was taken gets to sled in the end.
        for _ in 0..2 {
            db.freeze();
            db.hand_over(1).unwrap();
        }
        let sled = db.trees()[2].scan_prefix([keys::RETRIES]).map(Result::unwrap);
        let sled: Vec<_> = sled.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(sled, all.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_was_taken_is_never_missed_on_its_way_to_sled() {
    const ALL: u32 = 6_000;
    let numbered = |number: u32| [&[keys::RETRIES, b'|'][..], &number.to_be_bytes()].concat();
    let number = |key: sled::Result<IVec>| {
        u32::from_be_bytes(key.unwrap().get(2..).unwrap().try_into().unwrap())
    };
    let db = Db::open(&Config::new().temporary(true)).unwrap();
    let taken = AtomicU32::new(0);
    thread::scope(|scope| {
        let reader = |forward: bool| {
            let mut until = 0;
            while until < ALL {
                until = taken.load(Ordering::Acquire);
                let range = db.range(numbered(0)..numbered(until)).keys();
                let seen: Vec<u32> = if forward {
                    range.map(number).collect()
                } else {
                    let mut seen: Vec<u32> = range.rev().map(number).collect();
                    seen.reverse();
                    seen
                };
                assert!(seen == (0..until).collect::<Vec<_>>(), "{until}: {seen:?}");
                assert!((0..until).rev().take(50).all(|n| db.get(numbered(n)).unwrap().is_some()));
            }
        };
        let readers = [scope.spawn(move || reader(true)), scope.spawn(move || reader(false))];
        for first in (0..ALL).step_by(20) {
            db.take((first..first + 20).map(|n| (numbered(n), Some(vec![1]))).collect());
            taken.store(first + 20, Ordering::Release);
            db.freeze();
            db.hand_over(1).unwrap();
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn what_is_changed_again_sled_does_not_hear_of() {
    let db = Db::open(&Config::new().temporary(true)).unwrap();
    let entries =
        |value: Option<u8>| vec![(key(1), value.map(|v| vec![v])), (key(2), Some(vec![2]))];
    db.take(entries(Some(1)));
    db.freeze();
    db.take(vec![(key(1), None)]);
    db.hand_over(7).unwrap();
    assert_eq!(counts(&db), [0, 0, 2], "the second key and the number of the journal's half");
    assert_eq!(db.get(key(1)).unwrap(), None);
    assert_eq!(db.get(key(2)).unwrap().unwrap(), [2]);
}

#[test]
fn a_range_that_goes_nowhere_is_empty() {
    let db = Db::open(&Config::new().temporary(true)).unwrap();
    db.take(vec![(key(1), Some(vec![1])), (key(2), Some(vec![2]))]);
    assert_eq!(db.range(key(2)..key(1)).count(), 0);
    assert_eq!(db.range(key(2)..key(2)).count(), 0);
    assert_eq!(db.range(key(2)..=key(2)).count(), 1);
    assert_eq!(db.scan_prefix(&[keys::RETRIES]).count(), 2);
}
