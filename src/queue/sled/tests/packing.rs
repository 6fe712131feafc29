//! Logs whose ids are packed: what is read of them at start, and what is not.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::queue::{
    Health, Verdict,
    sled::{
        dedup::Dedup,
        disk::open_when_free,
        durable_flush::fault,
        entry::{Identity, encode_number},
        keys,
        load::load,
        packing::Note,
        reader::Shared,
        verify::{Report, repair, verify},
        watchdog::{PATIENCE, Watchdog},
    },
};

/// With records of ten ids.
pub(super) fn bench() -> Bench {
    let mut bench = Bench::one();
    bench.options.dedup_max = 64 * 10;
    bench
}

/// As if the log were too large to be read whole at start.
pub(super) async fn try_open_end(bench: &Bench) -> Result<SledQueue, OpenError> {
    let (options, clock) = (bench.options.clone(), bench.clock.clone());
    let start = move || {
        let mut shared = Shared::new(options, clock, Metrics::default(), Watchdog::new(PATIENCE));
        shared.read_whole = 0;
        SledQueue::start(shared)
    };
    spawn_blocking(start).await.unwrap()
}

pub(super) async fn open_end(bench: &Bench) -> SledQueue {
    try_open_end(bench).await.unwrap()
}

pub(super) async fn verified(bench: &Bench) -> Report {
    let directory = bench.options.directory.clone();
    spawn_blocking(move || verify(&directory, &[handler("a")])).await.unwrap().unwrap()
}

pub(super) async fn repaired(bench: &Bench) -> Report {
    let directory = bench.options.directory.clone();
    let now = bench.clock.now();
    spawn_blocking(move || repair(&directory, &[handler("a")], now)).await.unwrap().unwrap()
}

/// The events `from` to `to`, three to a record.
pub(super) async fn fill(queue: &SledQueue, from: u32, to: u32) {
    for first in (from..=to).step_by(3) {
        let batch = (first..=to.min(first + 2)).map(|n| arrival(&n.to_string())).collect();
        queue.append(batch).await.unwrap();
    }
}

pub(super) async fn done(queue: &SledQueue, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let delivery = take(queue, "a").await;
        ids.push(id(&delivery).to_owned());
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    ids
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

pub(super) fn note(db: &Db) -> Note {
    Note::decode(&db.get(keys::LOG).unwrap().unwrap()).unwrap()
}

pub(super) fn set_note(db: &Db, change: impl Fn(&mut Note)) {
    let mut note = note(db);
    change(&mut note);
    db.insert(keys::LOG, note.encode()).unwrap();
}

#[tokio::test]
async fn a_log_of_several_packings_goes_on_from_its_end_as_from_the_whole() {
    let bench = bench();
    let bytes = ninety(&bench).await;
    trouble::tamper(&bench, |db| {
        let (note, oldest) = (note(db), db.get(keys::OLDEST).unwrap().unwrap());
        assert!(note.until > 80 && note.until < 91 && note.bytes > 1000, "{note:?}");
        assert_eq!(oldest, encode_number(19));
        assert!(db.range(keys::all(keys::IDS)).count() >= 8);
    })
    .await;
    for whole in [false, true] {
        let queue = if whole { bench.open().await } else { open_end(&bench).await };
        let census = queue.census().await.unwrap();
        assert_eq!((census.live_bytes, census.events, census.dedup_ids), (bytes, 72, 90));
        assert_eq!(census.handlers[0].pending, 70);
        are_duplicates(&queue, 1..=90).await;
        queue.close().await.unwrap();
    }
    let queue = open_end(&bench).await;
    fill(&queue, 91, 120).await;
    assert_eq!(done(&queue, 100).await, numbers(21..=120));
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.live_bytes, census.events, census.dedup_ids), (0, 0, 120));
    are_duplicates(&queue, 1..=120).await;
    queue.close().await.unwrap();
    assert!(verified(&bench).await.whole);
}

#[tokio::test]
async fn deleting_events_whose_ids_are_packed_rewrites_none() {
    let bench = bench();
    ninety(&bench).await;
    let ids = |db: &Db| db.range(keys::all(keys::IDS)).map(Result::unwrap).collect::<Vec<_>>();
    let (send, before) = std::sync::mpsc::channel();
    trouble::tamper(&bench, move |db| send.send(ids(db)).unwrap()).await;
    let queue = bench.open().await;
    done(&queue, 40).await;
    queue.close().await.unwrap();
    trouble::tamper(&bench, move |db| {
        assert_eq!(db.get(keys::OLDEST).unwrap().unwrap(), encode_number(61));
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
    assert!(verified(&bench).await.whole);
    let queue = open_end(&bench).await;
    let census = queue.census().await.unwrap();
    assert!(census.events == 300 && (60..=64).contains(&census.dedup_ids), "{census:?}");
    are_duplicates(&queue, 241..=300).await;
    assert_eq!(append(&queue, &["1"]).await, [stored(301)]);
    bench.clock.advance(11 * DAY);
    assert_eq!(append(&queue, &["300"]).await, [stored(302)]);
    queue.close().await.unwrap();
    assert!(verified(&bench).await.whole);
    bench.clock.advance(11 * DAY);
    let queue = open_end(&bench).await;
    assert_eq!(queue.census().await.unwrap().dedup_ids, 0);
    assert_eq!(done(&queue, 302).await.len(), 302);
    queue.close().await.unwrap();
    assert!(verified(&bench).await.whole);
    assert_eq!(open_end(&bench).await.census().await.unwrap().live_bytes, 0);
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
            queue.close().await.unwrap();
            bench.clock.advance(6 * DAY);
            open_end(&bench).await
        };
        let left = async {
            while queue.census().await.unwrap().dedup_ids != 30 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), left).await.unwrap();
        queue.close().await.unwrap();
        assert!(verified(&bench).await.whole, "{running}");
        let queue = bench.reopen(open_end(&bench).await).await;
        are_duplicates(&queue, 31..=60).await;
        assert_eq!(append(&queue, &["30"]).await, [stored(61)]);
    }
}

#[tokio::test]
async fn after_a_failure_what_is_packed_and_what_is_not_is_known_again() {
    let bench = bench();
    let queue = open_end(&bench).await;
    fill(&queue, 1, 45).await;
    done(&queue, 10).await;
    for round in 1..4 {
        let first = 46 + 20 * (round - 1);
        let until = async |healthy: bool| {
            while (queue.health() == Health::Writable) != healthy {
                tokio::task::yield_now().await;
            }
        };
        fault::breaks(bench.directory.path());
        assert!(queue.append(vec![arrival(&first.to_string())]).await.is_err());
        timeout(Duration::from_secs(60), until(false)).await.unwrap();
        fault::mends(bench.directory.path());
        timeout(Duration::from_secs(60), until(true)).await.unwrap();
        // The refused one was written, or was not.
        append(&queue, &[&first.to_string()]).await;
        fill(&queue, first + 1, first + 19).await;
    }
    are_duplicates(&queue, 1..=105).await;
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.dedup_ids, census.handlers[0].pending), (105, 95));
    queue.close().await.unwrap();
    let queue = open_end(&bench).await;
    assert_eq!(queue.census().await.unwrap().live_bytes, census.live_bytes);
    assert_eq!(done(&queue, 95).await, numbers(11..=105));
    queue.close().await.unwrap();
    assert!(verified(&bench).await.whole);
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Step {
    /// So many appends of so many events.
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
                    if whole { self.bench.open().await } else { open_end(&self.bench).await };
            }
        }
    }

    /// What the closed store holds: the same whether its end is read or the whole, and what was
    /// given to it.
    fn compare(&self) {
        let db = open_when_free(&self.bench.sled()).unwrap();
        let (options, now) = (&self.bench.options, self.bench.clock.now());
        let (end, whole) =
            (load(&db, options, now, 0).unwrap(), load(&db, options, now, u64::MAX).unwrap());
        assert_eq!(end.dedup.known.sorted(), whole.dedup.known.sorted());
        assert_eq!(
            (end.oldest, end.next, end.live_bytes),
            (whole.oldest, whole.next, whole.live_bytes)
        );
        assert_eq!(end.dedup.unpacked.note, whole.dedup.unpacked.note);
        assert_eq!((&end.expired, end.dedup.low), (&whole.expired, whole.dedup.low));
        let bytes: usize = db
            .range(keys::all(keys::EVENTS))
            .map(|entry| entry.map(|(key, value)| key.len() + value.len()).unwrap())
            .sum();
        assert_eq!(end.live_bytes, u64::try_from(bytes).unwrap());
        let identity = Identity::decode(&db.get(keys::STORE).unwrap().unwrap()).unwrap();
        let dedup = Dedup::new(&identity.key);
        let known = self.stored.len().checked_sub(end.dedup.known.len()).unwrap();
        let ids = self.stored.iter().map(|(number, _)| {
            dedup.id(&Origin::Altinn, event(&number.to_string(), 10).attributes(), None)
        });
        assert!(ids.skip(known).all(|id| end.dedup.known.contains(&id)), "the newest are known");
        // No more are forgotten than one record of ids holds.
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
            let report = verified(&twin.bench).await;
            assert!(report.whole, "{report:?}");
        });
    }
}
