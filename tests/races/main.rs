//! The overlay under every order of threads that a scheduler thinks of: the files of `src/store`
//! themselves, with the scheduler's locks in the place of the standard library's.
//!
//! Hundreds of orders by default, many more with `BREVDUE_TESTS=long`.

#![cfg(test)]

#[path = "../../src/store/overlay/base.rs"]
mod base;
mod history;
#[path = "../../src/store/overlay/memtable.rs"]
#[expect(dead_code, reason = "what only a store that is copied or looked at uses")]
mod memtable;
#[path = "../../src/store/overlay/merge_iter.rs"]
mod merge_iter;
mod ordered;
mod sync;

use std::ops::Bound::{Excluded, Included};

use shuttle::{
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    thread,
};

use self::{
    base::{Base, Slice},
    history::{History, KEYS, Witness, key},
    memtable::Memtable,
    merge_iter::{MergeIter, get},
    ordered::Ordered,
    sync::Arc,
};

/// What gives the base the frozen memtable.
type HandOver = fn(&Memtable, &Ordered) -> Result<(), ordered::Never>;

/// What the writer, the checkpoints and the readers share.
struct Overlay {
    memtable: Arc<Memtable>,
    base: Ordered,
    history: History,
}

impl Overlay {
    fn new() -> Self {
        let base = Ordered::default();
        Self { memtable: Arc::default(), base, history: History::new() }
    }

    /// Commits in order, and freezes now and then, as the writer does.
    fn write(&self) {
        for number in 1..self.history.len() {
            let changes = self.history.begin(number);
            self.memtable.apply(changes);
            self.history.end(number);
            if number % 2 == 0 {
                self.memtable.freeze();
            }
        }
        self.memtable.freeze();
    }

    fn checkpoints(&self, hand_over: HandOver) {
        for _ in 0..3 {
            if self.memtable.frozen().is_some() {
                hand_over(&self.memtable, &self.base).unwrap();
            }
            thread::yield_now();
        }
    }

    fn read_keys(&self) {
        let mut witness = Witness::new(&self.history);
        for number in [0, 2, 1, 3, 0, 2] {
            let moment = witness.begin();
            let value = get(&self.memtable, &self.base, &key(number)).unwrap();
            witness.end(moment, number, value.as_deref());
        }
    }

    /// Reads all keys but the last, from the ends that `turns` says.
    fn read_range(&self, turns: &[bool]) {
        let mut witness = Witness::new(&self.history);
        for _ in 0..2 {
            let moment = witness.begin();
            let bounds = (Included(key(0)), Excluded(key(KEYS - 1)));
            let mut range = MergeIter::new(&self.memtable, self.base.clone(), bounds);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for forward in turns.iter().cycle() {
                let next = if *forward { range.next() } else { range.next_back() };
                let Some(entry) = next else { break };
                (if *forward { &mut front } else { &mut back }).push(entry.unwrap());
            }
            front.extend(back.into_iter().rev());
            let sorted = front.windows(2).all(|two| two[0].0 < two[1].0);
            assert!(sorted, "not sorted, or twice: {front:?}");
            for number in 0..KEYS - 1 {
                let found = front.iter().find(|(found, _)| *found == key(number));
                witness.end(moment, number, found.map(|(_, value)| &**value));
            }
            assert!(front.iter().all(|(found, _)| *found < key(KEYS - 1)), "out of bounds");
        }
    }
}

fn scenario(hand_over: HandOver, turns: &'static [bool]) {
    let overlay = Arc::new(Overlay::new());
    let spawn = |run: Box<dyn FnOnce(&Overlay) + Send>| {
        let overlay = Arc::clone(&overlay);
        thread::spawn(move || run(&overlay))
    };
    let threads = [
        spawn(Box::new(Overlay::write)),
        spawn(Box::new(move |overlay| overlay.checkpoints(hand_over))),
        spawn(Box::new(Overlay::read_keys)),
        spawn(Box::new(move |overlay| overlay.read_range(turns))),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    // In the end the base has everything.
    for _ in 0..2 {
        overlay.memtable.freeze();
        hand_over(&overlay.memtable, &overlay.base).unwrap();
    }
    for number in 0..KEYS {
        let value = overlay.base.get(&key(number)).unwrap();
        assert_eq!(value.as_deref(), overlay.history.last(number).as_ref().map(|value| &value[..]));
    }
}

fn rounds() -> usize {
    let long = std::env::var("BREVDUE_TESTS").is_ok_and(|form| form == "long");
    if long { 50_000 } else { 300 }
}

/// Runs it in many orders; always the same ones.
fn check(hand_over: HandOver, turns: &'static [bool]) {
    let random = RandomScheduler::new_from_seed(1, rounds());
    let few_switches = PctScheduler::new_from_seed(1, 3, rounds());
    run(random, hand_over, turns);
    run(few_switches, hand_over, turns);
}

fn run(scheduler: impl Scheduler + 'static, hand_over: HandOver, turns: &'static [bool]) {
    let config = shuttle::Config::new();
    shuttle::Runner::new(scheduler, config).run(move || scenario(hand_over, turns));
}

fn as_the_store_does(memtable: &Memtable, base: &Ordered) -> Result<(), ordered::Never> {
    memtable.hand_over(base, || Ok(()))
}

#[test]
fn no_reader_misses_an_entry_or_goes_back_in_time_forwards() {
    check(as_the_store_does, &[true]);
}

#[test]
fn no_reader_misses_an_entry_or_goes_back_in_time_backwards() {
    check(as_the_store_does, &[false]);
}

#[test]
fn no_reader_misses_an_entry_or_goes_back_in_time_from_both_ends() {
    check(as_the_store_does, &[true, false, false]);
}

/// The check is worth something: it notices a memtable that is retired before the base has it.
#[test]
#[should_panic(expected = "was not the value")]
fn a_memtable_that_is_retired_too_early_is_noticed() {
    check(
        |memtable, base| {
            let frozen = memtable.frozen().unwrap_or_default();
            memtable.retire();
            frozen.iter().try_for_each(|(key, change)| base.change(key, change.clone()))
        },
        &[true],
    );
}

/// The type that the store's keys and values have.
fn slice(bytes: &[u8]) -> Slice {
    Slice::from(bytes)
}
