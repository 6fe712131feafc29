//! Logs whose ids are packed in runs: what is read of them at start, and what is not.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    queue::sled::{
        codec::{
            Value,
            run::Run,
            values::{DedupKey, LogBounds},
        },
        dedup::Dedup,
        load::{Loaded, load},
    },
    store::{Files, Store, fault},
};

/// With runs of ten ids.
pub(super) fn bench() -> Bench {
    let mut bench = Bench::one();
    bench.options.dedup_max = 64 * 10;
    bench
}

/// The events `from` to `to`, three to a record.
pub(super) async fn fill(queue: &SledQueue, from: u32, to: u32) {
    for first in (from..=to).step_by(3) {
        let batch = (first..=to.min(first + 2)).map(|n| arrival(&n.to_string())).collect();
        queue.append(batch).await.unwrap();
    }
}

pub(super) fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

pub(super) async fn are_duplicates(queue: &SledQueue, range: std::ops::RangeInclusive<u32>) {
    for number in range {
        let results = append(queue, &[&number.to_string()]).await;
        assert_eq!(results, [Appended::Duplicate], "{number}");
    }
}

/// A closed store with the events 1 to 90, three to a record, of which 1 to 20 are done: 1 to 18
/// have left the log. Their ids and those of most others are packed.
pub(super) async fn ninety(bench: &Bench) -> u64 {
    let queue = bench.open().await;
    fill(&queue, 1, 90).await;
    done(&queue, 20).await;
    let queue = bench.reopen(queue).await;
    let bytes = queue.census().await.unwrap().live_bytes;
    queue.close().await.unwrap();
    bytes
}

pub(super) fn bounds(db: &Db) -> LogBounds {
    LogBounds::decode(&db.get(keys::LOG).unwrap()).unwrap()
}

pub(super) fn set_bounds(db: &Db, change: impl Fn(&mut LogBounds)) {
    let mut bounds = bounds(db);
    change(&mut bounds);
    db.insert(keys::LOG, bounds.encode());
}

/// The number after the last event whose ids are in a run.
pub(super) fn packed_to(db: &Db) -> u64 {
    let runs = db.range(keys::all(keys::IDS));
    runs.last().map_or(1, |(_, run)| Run::decode(run).unwrap().head.end())
}

#[tokio::test]
async fn a_log_of_several_runs_goes_on_from_its_end_as_from_the_whole() {
    let bench = bench();
    let bytes = ninety(&bench).await;
    bench
        .tamper(|db| {
            assert_eq!(bounds(db), LogBounds { oldest: 19, next: 91, ids_from: 1 });
            assert!(packed_to(db) > 80, "{}", packed_to(db));
            assert!(db.range(keys::all(keys::IDS)).len() >= 8);
        })
        .await;
    for whole in [false, true] {
        let queue = if whole { bench.open().await } else { bench.open_end().await };
        let census = queue.census().await.unwrap();
        assert_eq!((census.live_bytes, census.events, census.dedup_ids), (bytes, 72, 90));
        assert_eq!(census.handlers[0].pending, 70);
        are_duplicates(&queue, 1..=90).await;
        queue.close().await.unwrap();
    }
    let queue = bench.open_end().await;
    fill(&queue, 91, 120).await;
    assert_eq!(done(&queue, 100).await, numbers(21..=120));
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.live_bytes, census.events, census.dedup_ids), (0, 0, 120));
    are_duplicates(&queue, 1..=120).await;
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
}

#[tokio::test]
async fn deleting_events_whose_ids_are_packed_rewrites_none() {
    let bench = bench();
    ninety(&bench).await;
    let ids = |db: &Db| db.range(keys::all(keys::IDS));
    let (send, before) = std::sync::mpsc::channel();
    bench.tamper(move |db| send.send(ids(db)).unwrap()).await;
    let queue = bench.open().await;
    done(&queue, 40).await;
    queue.close().await.unwrap();
    bench
        .tamper(move |db| {
            assert_eq!(bounds(db).oldest, 61);
            assert_eq!(ids(db), before.recv().unwrap());
        })
        .await;
}

#[tokio::test]
async fn ids_that_leave_the_window_before_their_events_leave_the_log_are_not_missed() {
    let mut bench = bench();
    bench.options.dedup_max = 64;
    bench.options.dedup_window = 10 * DAY;
    let queue = bench.open().await;
    fill(&queue, 1, 300).await;
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
    let queue = bench.open_end().await;
    let census = queue.census().await.unwrap();
    assert!(census.events == 300 && (60..=64).contains(&census.dedup_ids), "{census:?}");
    are_duplicates(&queue, 241..=300).await;
    assert_eq!(append(&queue, &["1"]).await, [stored(301)]);
    bench.clock.advance(11 * DAY);
    assert_eq!(append(&queue, &["300"]).await, [stored(302)]);
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
    let queue = bench.open_end().await;
    bench.clock.advance(11 * DAY);
    let left = async {
        while queue.census().await.unwrap().dedup_ids > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), left).await.unwrap();
    assert_eq!(done(&queue, 302).await.len(), 302);
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
    assert_eq!(bench.open_end().await.census().await.unwrap().live_bytes, 0);
}

#[tokio::test]
async fn ids_that_are_deleted_are_not_missed_by_the_next_start() {
    for running in [true, false] {
        let mut bench = bench();
        bench.options.dedup_window = 10 * DAY;
        let queue = bench.open().await;
        fill(&queue, 1, 30).await;
        bench.clock.advance(6 * DAY);
        fill(&queue, 31, 60).await;
        // Nothing is packed any more: ids only leave.
        let queue = if running {
            bench.clock.advance(6 * DAY);
            queue
        } else {
            // It does not know how long it was stopped before it has seen a day go by.
            queue.close().await.unwrap();
            bench.clock.advance(5 * DAY);
            let queue = bench.open_end().await;
            assert_eq!(queue.census().await.unwrap().dedup_ids, 60);
            bench.clock.advance(DAY);
            queue
        };
        let left = async {
            while queue.census().await.unwrap().dedup_ids != 30 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), left).await.unwrap();
        queue.close().await.unwrap();
        assert!(bench.verified().await.whole, "{running}");
        let queue = bench.reopen(bench.open_end().await).await;
        are_duplicates(&queue, 31..=60).await;
        assert_eq!(append(&queue, &["30"]).await, [stored(61)]);
    }
}

#[tokio::test]
async fn after_a_failure_what_is_packed_and_what_is_not_is_known_again() {
    let bench = bench();
    let queue = bench.open_end().await;
    fill(&queue, 1, 45).await;
    done(&queue, 10).await;
    for round in 1..4 {
        let first = 46 + 20 * (round - 1);
        fault::breaks(bench.directory.path());
        assert!(queue.append(vec![arrival(&first.to_string())]).await.is_err());
        failing(&queue).await;
        fault::mends(bench.directory.path());
        healed(&queue).await;
        // The refused one was written, or was not.
        append(&queue, &[&first.to_string()]).await;
        fill(&queue, first + 1, first + 19).await;
    }
    are_duplicates(&queue, 1..=105).await;
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.dedup_ids, census.handlers[0].pending), (105, 95));
    queue.close().await.unwrap();
    let queue = bench.open_end().await;
    assert_eq!(queue.census().await.unwrap().live_bytes, census.live_bytes);
    assert_eq!(done(&queue, 95).await, numbers(11..=105));
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Step {
    /// This many appends of this many events.
    Append(usize, usize),
    Done(usize),
    /// So many hours pass.
    Later(u64),
    /// It is closed and opened, and read whole or from its end.
    Reopen(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..12, 1usize..9).prop_map(|(n, each)| Step::Append(n, each)),
        3 => (1usize..60).prop_map(Step::Done),
        1 => (1u64..60).prop_map(Step::Later),
        2 => any::<bool>().prop_map(Step::Reopen),
    ];
    vec(step, 1..25)
}

/// A store beside what it was given.
struct Twin {
    bench: Bench,
    queue: SledQueue,
    /// Number and time of every event.
    stored: Vec<(u32, Timestamp)>,
    delivered: usize,
}

impl Twin {
    async fn new(most: usize) -> Self {
        let mut bench = Bench::one();
        bench.options.dedup_max = 64 * most;
        bench.options.dedup_window = 4 * DAY;
        let queue = bench.open().await;
        Self { bench, queue, stored: Vec::new(), delivered: 0 }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Append(appends, each) => {
                for _ in 0..appends {
                    let next = u32::try_from(self.stored.len()).unwrap() + 1;
                    let batch = next..next + u32::try_from(each).unwrap();
                    let now = self.bench.clock.now();
                    self.stored.extend(batch.clone().map(|number| (number, now)));
                    let arrivals = batch.map(|number| arrival(&number.to_string())).collect();
                    self.queue.append(arrivals).await.unwrap();
                }
            }
            Step::Done(count) => {
                let count = count.min(self.stored.len() - self.delivered);
                let expected = self.stored[self.delivered..self.delivered + count].iter();
                let expected: Vec<_> = expected.map(|(number, _)| number.to_string()).collect();
                assert_eq!(done(&self.queue, count).await, expected);
                self.delivered += count;
            }
            Step::Later(hours) => self.bench.clock.advance(Duration::from_secs(hours * 3600)),
            Step::Reopen(whole) => {
                self.queue.close().await.unwrap();
                self.compare();
                self.queue =
                    if whole { self.bench.open().await } else { self.bench.open_end().await };
            }
        }
    }

    /// What the closed store holds: the same whether its end is read or the whole, and what was
    /// given to it.
    fn compare(&self) {
        let files = Files(self.bench.options.directory.join("store"));
        let store = Store::open(&files, keys::LAYOUT, &Disk::default()).unwrap();
        let (view, options, now) = (store.view(), &self.bench.options, self.bench.clock.now());
        let (end, whole) =
            (load(view, options, 0).unwrap(), load(view, options, u64::MAX).unwrap());
        let Loaded { contents, dedup, .. } = end;
        assert_eq!(dedup.known.sorted(), whole.dedup.known.sorted());
        assert_eq!(contents.bounds, whole.contents.bounds);
        assert_eq!(contents.live_bytes, whole.contents.live_bytes);
        assert_eq!(dedup.runs.ids_from(), whole.dedup.runs.ids_from());
        assert_eq!(
            dedup.runs.packed().collect::<Vec<_>>(),
            whole.dedup.runs.packed().collect::<Vec<_>>()
        );
        let bytes: usize = view
            .range(keys::all(keys::EVENTS))
            .map(|entry| entry.map(|(key, value)| key.len() + value.len()).unwrap())
            .sum();
        assert_eq!(contents.live_bytes, u64::try_from(bytes).unwrap());
        let key = DedupKey::decode(&view.get(keys::DEDUP).unwrap().unwrap()).unwrap();
        let made = Dedup::new(&key);
        let known = self.stored.len().checked_sub(dedup.known.len()).unwrap();
        let ids = self.stored.iter().map(|(number, _)| {
            made.id(&Origin::Altinn, event(&number.to_string(), 10).attributes(), None)
        });
        assert!(ids.skip(known).all(|id| dedup.known.contains(&id)), "the newest are known");
        // No more are forgotten than one run holds.
        let most = options.dedup_max / 64;
        let fresh = self.stored.partition_point(|(_, at)| *at < now.before(options.dedup_window));
        let kept = self.stored.len().saturating_sub(options.dedup_max - most.max(8));
        assert!(known <= fresh.max(kept), "{known} are forgotten, of {fresh} and {kept}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_its_end_tells_as_much_as_the_whole(
        most in prop_oneof![Just(1usize), Just(4), Just(16)],
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut twin = Twin::new(most).await;
            for step in &steps {
                twin.step(step).await;
            }
            twin.queue.close().await.unwrap();
            twin.compare();
            let report = twin.bench.verified().await;
            assert!(report.whole, "{report:?}");
        });
    }
}
