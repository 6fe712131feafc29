//! The store against a map, through commits of every size, checkpoints, crashes and compactions.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys of each tree. Some are the beginning of others.
const KEYS: [&[u8]; 12] = [
    b"e|1",
    b"e|2",
    b"i|1",
    b"i|2",
    b"l|a",
    b"l|ab",
    b"l|ab\0\0\0\x01",
    b"l|b",
    b"s|1",
    b"s|2",
    b"s|22",
    b"m|1",
];
/// First bytes of all of them, and of those of the large commits.
const FIRSTS: [u8; 6] = [b'e', b'i', b'l', b's', b'm', b'z'];
const LARGEST: usize = 4 * chunked::CHUNK;

#[derive(Debug, Clone)]
enum Step {
    /// Sets some keys, to values of this length, or removes them.
    Commit(Vec<(usize, Option<usize>)>),
    /// A commit of this many values of 19 KiB.
    Bulk(u16),
    /// What the writer does between commits.
    Tend,
    Checkpoint,
    Crash,
    Close,
    /// A crash that leaves of sled only what the last checkpoint made durable.
    PowerLoss,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 0_usize..300,
        1 => chunked::CHUNK..chunked::MAX_ENTRY,
        2 => chunked::MAX_ENTRY - FRAME..LARGEST,
    ];
    let changes = vec((0..KEYS.len(), proptest::option::weighted(0.7, len)), 1..8);
    prop_oneof![
        12 => changes.prop_map(Step::Commit),
        3 => (50_u16..120).prop_map(Step::Bulk),
        1 => (440_u16..460).prop_map(Step::Bulk),
        1 => Just(Step::Tend),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
        1 => Just(Step::Close),
        3 => Just(Step::PowerLoss),
        1 => Just(Step::Compact),
    ]
}

/// A store, what must be in it, and what the last checkpoint made durable of sled.
struct Run {
    bench: Bench,
    store: Option<Store>,
    model: Model,
    durable: TempDir,
    /// Bytes of commits since then; `None` if sled has made something durable since, perhaps.
    since: Option<usize>,
    stamp: u8,
}

impl Run {
    fn new() -> Self {
        let bench = Bench::new();
        let store = Some(bench.open());
        let durable = tempfile::tempdir().unwrap();
        Self { bench, store, model: Model::new(), durable, since: None, stamp: 0 }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn step(&mut self, step: &Step) {
        self.stamp = self.stamp.wrapping_add(1);
        match step {
            Step::Commit(changes) => {
                let mut batch = Batch::new();
                for ((key, len), nth) in changes.iter().zip(0_u8..) {
                    let key = KEYS[*key];
                    let may_be_large = LAYOUT.chunked.contains(&key[0]);
                    match len {
                        None => batch.remove(key),
                        Some(len) if may_be_large => batch.put(key, value(*len, nth ^ self.stamp)),
                        Some(len) => batch.put(key, value(len % 300, nth ^ self.stamp)),
                    }
                }
                self.commit(batch);
            }
            Step::Bulk(count) => {
                let mut batch = Batch::new();
                for number in 0..*count {
                    let key = [&b"z|"[..], &number.to_be_bytes()].concat();
                    batch.put(key, value(19 * 1024, self.stamp));
                }
                self.commit(batch);
            }
            Step::Tend => {
                self.store().wants_tidy();
                self.store().tend().unwrap();
            }
            Step::Checkpoint => {
                self.store().checkpoint().unwrap();
                copy(&self.bench.files().database(), self.durable.path());
                self.since = Some(0);
            }
            Step::Crash => self.reopen(drop),
            Step::Close => self.reopen(|store| store.close().unwrap()),
            Step::PowerLoss => self.lose_power(),
            Step::Compact => self.compact(),
        }
    }

    fn commit(&mut self, batch: Batch) {
        let size = |(key, value): &batch::Change| key.len() + value.as_ref().map_or(0, Vec::len);
        let bytes: usize = batch.0.iter().map(size).sum();
        self.since = self.since.map(|since| since + bytes).filter(|since| *since < 1 << 20);
        for (key, value) in batch.0.clone() {
            match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
        }
        self.store().commit(batch).unwrap();
    }

    fn reopen(&mut self, close: impl FnOnce(Store)) {
        close(self.store.take().unwrap());
        self.store = Some(self.bench.open());
        self.compare_all();
    }

    fn lose_power(&mut self) {
        if self.since.is_some() {
            drop(self.store.take());
            // Its threads have it open a moment longer.
            let database = self.bench.files().database();
            drop(directory::open_when_free(&database, LAYOUT, &Disk::default()).unwrap());
            copy(self.durable.path(), &database);
            self.store = Some(self.bench.open());
            self.compare_all();
        }
    }

    fn compact(&mut self) {
        let next = self.bench.directory.next();
        let mut store = self.store.take().unwrap();
        store.copy_to(&next).unwrap();
        let id = store.id();
        store.close().unwrap();
        self.bench.directory.swap(&next).unwrap();
        next.remove().unwrap();
        self.store = Some(self.bench.open());
        assert_eq!(self.store().id(), id);
        self.since = None;
        self.compare_all();
    }

    fn compare_all(&self) {
        let view = self.store.as_ref().unwrap().view();
        let mut there = Model::new();
        for first in FIRSTS {
            there.extend(all(view, first));
        }
        let differ = |key: &&Vec<u8>| there.get(*key) != self.model.get(*key);
        let keys: Vec<_> = there.keys().chain(self.model.keys()).filter(differ).collect();
        assert!(keys.is_empty(), "{keys:?}");
        let large = self.model.values().filter(|value| value.len() > chunked::MAX_ENTRY);
        let expected: usize = large
            .map(|value| (value.len() - FRAME - chunked::CHUNK).div_ceil(chunked::CHUNK))
            .sum();
        assert_eq!(parts(view), expected, "parts outlive their value, or lack");
    }

    /// Reads by key, and by ranges from both ends by turns.
    fn compare_some(&self) {
        let view = self.store.as_ref().unwrap().view();
        for key in KEYS {
            let value = view.get(key).unwrap();
            let whole = value
                .as_ref()
                .map(|value| chunked::whole(view, key, value).unwrap().unwrap().unwrap());
            assert!(whole.as_deref() == self.model.get(key).map(Vec::as_slice), "{key:?}");
        }
        for first in [b'e', b'l', b's'] {
            let mut range = view.range(vec![first]..vec![first + 1]);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            while let Some(entry) = range.next() {
                front.push(entry.unwrap().0.to_vec());
                back.extend(range.next_back().map(|entry| entry.unwrap().0.to_vec()));
            }
            front.extend(back.into_iter().rev());
            let mut keys = self.model.range(vec![first]..vec![first + 1]).map(|(key, _)| key);
            assert!(front.iter().eq(&mut keys), "{front:?}");
        }
    }
}

fn cases() -> u32 {
    let long = std::env::var("BREVDUE_TESTS").is_ok_and(|value| value == "long");
    if long { 400 } else { 12 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_is_there_and_nothing_else(steps in vec(step(), 1..25)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.compare_some();
        }
        run.reopen(drop);
    }
}

#[test]
fn a_value_that_is_changed_twice_in_a_commit_leaves_no_parts() {
    let large = Some(LARGEST);
    for last in [None, Some(10), Some(chunked::MAX_ENTRY)] {
        let mut run = Run::new();
        run.step(&Step::Commit(vec![(4, large)]));
        run.step(&Step::Commit(vec![(4, large), (4, last)]));
        run.compare_all();
        run.step(&Step::Commit(vec![(4, last), (4, large), (4, last)]));
        run.compare_all();
    }
}

#[test]
fn a_value_keeps_its_parts_when_that_of_another_key_with_the_same_beginning_goes() {
    let mut run = Run::new();
    run.step(&Step::Commit((4..8).map(|key| (key, Some(LARGEST))).collect()));
    for key in 4..8 {
        run.step(&Step::Commit(vec![(key, None)]));
        run.compare_all();
    }
}

#[test]
fn who_reads_a_range_sees_a_commit_that_went_to_sled_at_once() {
    let mut run = Run::new();
    run.step(&Step::Bulk(450));
    run.step(&Step::Checkpoint);
    let view = run.store().view().clone();
    let mut range = view.scan_prefix(b"z");
    range.next().unwrap().unwrap();
    run.step(&Step::Bulk(450));
    let (key, value) = range.next().unwrap().unwrap();
    assert!(*value == run.model[&key.to_vec()], "it was replaced before it was read");
}
