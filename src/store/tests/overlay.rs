//! The memtables over sled's trees, without a write-ahead log.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::*;

impl View {
    fn take(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        self.memtable.apply(view::changes(Batch(changes)));
    }

    fn hand_over(&self) {
        self.memtable.hand_over(&self.trees, || Ok(())).unwrap();
    }
}

fn view() -> View {
    View::temporary(LAYOUT)
}

/// Keys of the state: the first byte counts.
fn key(number: u8) -> Vec<u8> {
    vec![b's', b'|', number]
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
fn from_both_ends(view: &View, low: u8, high: u8, turns: &[bool]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut range = view.range(key(low)..key(high));
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
        let view = view();
        let mut all = BTreeMap::new();
        for (count, step) in (0_u8..).zip(steps) {
            match step {
                Step::Commit(changes) => {
                    let value = |is_set: bool| is_set.then(|| vec![count]);
                    let changes = changes.into_iter().map(|(n, is_set)| (key(n), value(is_set)));
                    let changes: Vec<_> = changes.collect();
                    for (key, value) in changes.clone() {
                        match value {
                            Some(value) => all.insert(key, value),
                            None => all.remove(&key),
                        };
                    }
                    view.take(changes);
                }
                Step::Freeze => view.memtable.freeze(),
                Step::HandOver => view.hand_over(),
            }
            let (low, high) = ends;
            let within = |(k, v): (&Vec<u8>, &Vec<u8>)| {
                (key(low) <= *k && *k < key(high)).then(|| (k.clone(), v.clone()))
            };
            let there: Vec<_> = all.iter().filter_map(within).collect();
            prop_assert_eq!(from_both_ends(&view, low, high, &turns), there);
            for number in 0..24 {
                let value = view.get(&key(number)).unwrap().map(|value| value.to_vec());
                prop_assert_eq!(value.as_ref(), all.get(&key(number)));
            }
        }
        // Everything that was taken gets to sled in the end.
        for _ in 0..2 {
            view.memtable.freeze();
            view.hand_over();
        }
        let sled = view.trees.entries().map(Result::unwrap);
        let sled: Vec<_> = sled.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(sled, all.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_was_taken_is_never_missed_on_its_way_to_sled() {
    const ALL: u32 = 6_000;
    let numbered = |number: u32| [&b"s|"[..], &number.to_be_bytes()].concat();
    let number = |entry: Result<(Slice, Slice), Error>| {
        u32::from_be_bytes(entry.unwrap().0.get(2..).unwrap().try_into().unwrap())
    };
    let view = view();
    let taken = AtomicU32::new(0);
    thread::scope(|scope| {
        let reader = |forward: bool| {
            let mut until = 0;
            while until < ALL {
                until = taken.load(Ordering::Acquire);
                let range = view.range(numbered(0)..numbered(until));
                let seen: Vec<u32> = if forward {
                    range.map(number).collect()
                } else {
                    let mut seen: Vec<u32> = range.rev().map(number).collect();
                    seen.reverse();
                    seen
                };
                assert!(seen == (0..until).collect::<Vec<_>>(), "{until}: {seen:?}");
                assert!(
                    (0..until).rev().take(50).all(|n| view.get(&numbered(n)).unwrap().is_some())
                );
            }
        };
        let readers = [scope.spawn(move || reader(true)), scope.spawn(move || reader(false))];
        for first in (0..ALL).step_by(20) {
            view.take((first..first + 20).map(|n| (numbered(n), Some(vec![1]))).collect());
            taken.store(first + 20, Ordering::Release);
            view.memtable.freeze();
            view.hand_over();
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn what_is_changed_again_sled_does_not_hear_of() {
    let view = view();
    view.take(vec![(key(1), Some(vec![1])), (key(2), Some(vec![2]))]);
    view.memtable.freeze();
    view.take(vec![(key(1), None)]);
    view.hand_over();
    assert_eq!(view.trees.entries().count(), 1);
    assert_eq!(view.get(&key(1)).unwrap(), None);
    assert_eq!(view.get(&key(2)).unwrap().unwrap(), [2]);
}

#[test]
fn a_range_that_goes_nowhere_is_empty_and_a_prefix_has_an_end() {
    let view = view();
    let last = vec![b's', 0xff, 0xff];
    view.take(vec![(key(1), Some(vec![1])), (key(2), Some(vec![2])), (last.clone(), Some(vec![]))]);
    assert_eq!(view.range(key(2)..key(1)).count(), 0);
    assert_eq!(view.range(key(2)..key(2)).count(), 0);
    assert_eq!(view.range(key(2)..=key(2)).count(), 1);
    assert_eq!(view.scan_prefix(b"s|").count(), 2);
    assert_eq!(view.scan_prefix(b"s").count(), 3);
    assert_eq!(view.scan_prefix(&last[..2]).count(), 1);
    assert_eq!(view.scan_prefix(&last).count(), 1);
}

#[test]
fn entries_of_all_trees_are_written_at_once() {
    let store = Bench::new().open();
    let view = store.view();
    let keys = [b"e|1", b"i|1", b"s|1", b"p|1"];
    let mut batch = Batch::new();
    batch.put(*b"e|2", vec![]);
    for key in keys {
        batch.put(*key, vec![1]);
    }
    batch.remove(*b"e|2");
    view.trees.change_at_once(&batch).unwrap();
    let found: Vec<_> = view.trees.entries().map(|entry| entry.unwrap().0).collect();
    assert_eq!(found, [b"e|1", b"p|1", b"i|1", b"s|1"].map(|key| Slice::from(&key[..])));
    assert!(keys.iter().all(|key| view.get(*key).unwrap().unwrap() == [1]));
}
