//! Stores with packed ids that are damaged: where it is found, and what goes on all the same.

use std::{collections::HashSet, os::unix::fs::FileExt};

use memchr::memmem;

use super::{
    packing::{are_duplicates, bench, bounds, fill, ninety, numbers, packed_to, set_bounds},
    *,
};
use crate::{
    queue::sled::codec::{Value, record::Head, run::Run},
    store::chunked::size,
};

/// What is done to the store, and what an opening that reads only the end says; empty if it
/// cannot see it. One that reads the whole refuses all of them.
type Damage = (&'static str, fn(&Db), &'static str);

/// Without its last run, as a kill leaves it: the record that begins where the last run ends then,
/// and the one before.
fn border(db: &Db) -> (u64, u64) {
    db.remove(last_run(db));
    let end = packed_to(db);
    assert!(db.get(keys::event(end)).is_some());
    (end, end - 3)
}

/// Changes the run at or behind an event.
fn change_run(db: &Db, from: u64, change: impl Fn(&mut Run)) {
    let (key, value) = db.range(keys::ids(from)..keys::ids(u64::MAX)).swap_remove(0);
    let mut run = Run::decode(&value).unwrap();
    change(&mut run);
    db.insert(key, run.encode());
}

/// The key of the last run.
fn last_run(db: &Db) -> Vec<u8> {
    db.range(keys::all(keys::IDS)).pop().unwrap().0
}

const DAMAGES: &[Damage] = &[
    ("no record in the middle", |db| db.remove(keys::event(49)), ""),
    ("a record in the middle", |db| db.flip(keys::event(49)), ""),
    ("its size", |db| change_run(db, 40, |run| run.bytes += 1), ""),
    ("no first record", |db| db.remove(keys::event(19)), "are missing"),
    ("the first record", |db| db.flip(keys::event(19)), "checksum"),
    ("no record after the border", |db| db.remove(keys::event(border(db).0)), "are missing"),
    ("no record before the border", |db| db.remove(keys::event(border(db).1)), "are missing"),
    ("the record after the border", |db| db.flip(keys::event(border(db).0)), "checksum"),
    ("the record before the border", |db| db.flip(keys::event(border(db).1)), "checksum"),
    ("no last record", |db| db.remove(keys::event(88)), "are missing"),
    ("no bounds", |db| db.remove(keys::LOG), "missing"),
    ("the bounds", |db| db.flip(keys::LOG), "m|log"),
    ("a log that begins within a record", |db| set_bounds(db, |at| at.oldest -= 1), "missing"),
    ("a log that begins too early", |db| set_bounds(db, |at| at.oldest -= 3), "missing"),
    ("a log that ends too late", |db| set_bounds(db, |at| at.next += 3), "missing"),
    (
        "a run that ends within a record",
        |db| {
            let last = keys::number_of(&last_run(db)).unwrap();
            change_run(db, last, |run| run.head.count -= 1);
        },
        "missing",
    ),
    (
        "a run in the middle that is too short",
        |db| change_run(db, 40, |run| run.head.count -= 1),
        "the ids of the events",
    ),
    (
        "no ids in the middle",
        |db| {
            let key = db.range(keys::ids(40)..keys::ids(u64::MAX)).swap_remove(0).0;
            db.remove(key);
        },
        "the ids of the events",
    ),
    ("no first ids", |db| db.remove(db.first(keys::IDS)), "the ids of the events 1 to"),
    ("ids in the middle", |db| db.flip(keys::ids(28)), "the ids of the events from 28 on"),
];

/// Without its last run the log has a longer end, whose ids stand with their events: no harm.
#[tokio::test]
async fn the_last_run_is_of_use_only_for_speed() {
    let bench = bench();
    let bytes = ninety(&bench).await;
    bench.tamper(|db| db.remove(last_run(db))).await;
    let queue = bench.open_end().await;
    assert_eq!(queue.census().await.unwrap().live_bytes, bytes);
    are_duplicates(&queue, 1..=90).await;
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
}

#[tokio::test]
async fn what_is_wrong_with_packed_ids_is_refused_verified_and_repaired() {
    for (name, damage, words) in DAMAGES {
        let bench = bench();
        ninety(&bench).await;
        bench.tamper(damage).await;
        match bench.try_open_end().await {
            Ok(queue) => {
                assert_eq!(*words, "", "{name}: it opens");
                drop(queue.close().await);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!words.is_empty() && error.contains(words), "{name}: {error}");
                assert!(error.contains("verify --repair"), "{name}: {error}");
            }
        }
        assert!(matches!(bench.try_open().await, Err(OpenError::Damaged(_))), "{name}");
        let report = bench.verified().await;
        assert!(!report.whole, "{name}");
        bench.repaired().await;
        let after = bench.verified().await;
        assert!(after.whole, "{name}: {:?} and then {:?}", report.faults, after.faults);
        // Nothing is lost: what was taken away, the file still has.
        let queue = bench.open_end().await;
        let ids = done(&queue, 70).await;
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 70, "{name}: {ids:?}");
        are_duplicates(&queue, 21..=90).await;
        queue.close().await.unwrap();
        assert!(bench.verified().await.whole, "{name}: afterwards");
        drop(bench.open_end().await);
    }
}

#[tokio::test]
async fn ids_that_are_not_those_of_their_events_are_found_by_a_verification() {
    let bench = bench();
    ninety(&bench).await;
    let queue = bench.open().await;
    assert_eq!(done(&queue, 3).await, numbers(21..=23));
    queue.close().await.unwrap();
    bench.tamper(|db| change_run(db, 40, |run| run.head.ids[1] = [1; 16])).await;
    let report = bench.verified().await;
    assert!(report.faults[0].contains("are not among them"), "{report:?}");
    bench.repaired().await;
    let report = bench.verified().await;
    // Those of 19 to 21, which are gone, are still packed; the others stand with their events.
    assert!(report.whole && report.holds.oldest == 22, "{report:?}");
    assert_eq!(report.holds.dedup_ids, 90, "each once");
    are_duplicates(&bench.open().await, 1..=90).await;
}

/// Without its events, and with no ids.
fn gap(record: &[u8]) -> Vec<u8> {
    Head { ids: Vec::new(), ..Head::decode(record).unwrap() }.encode_gap()
}

/// Where the log begins in the middle of a run, the run keeps the ids of what is gone.
#[tokio::test]
async fn an_event_that_is_lost_is_stored_if_it_is_sent_again() {
    let bench = bench();
    ninety(&bench).await;
    let queue = bench.open().await;
    assert_eq!(done(&queue, 3).await, numbers(21..=23));
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            assert!(bounds(db).oldest == 22 && db.get(keys::ids(19)).is_some());
            let lost = gap(&db.get(keys::event(25)).unwrap());
            db.insert(keys::event(25), lost);
            db.flip(db.first(keys::CURSORS));
        })
        .await;
    bench.repaired().await;
    let queue = bench.open().await;
    are_duplicates(&queue, 19..=24).await;
    are_duplicates(&queue, 28..=90).await;
    assert_eq!(append(&queue, &["25", "26", "27"]).await, [stored(91), stored(92), stored(93)]);
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
}

#[tokio::test]
async fn damage_in_the_middle_stops_delivery_there_and_is_told() {
    for missing in [false, true] {
        let bench = bench();
        ninety(&bench).await;
        let damage = move |db: &Db| {
            if missing { db.remove(keys::event(49)) } else { db.flip(keys::event(49)) }
        };
        bench.tamper(damage).await;
        let queue = bench.open_end().await;
        let metrics = queue.shared.metrics.clone();
        assert_eq!(done(&queue, 28).await, numbers(21..=48));
        assert_eq!(metrics.store_damaged.get(), 0);
        for _ in 0..3 {
            let taken = timeout(Duration::from_secs(60), queue.take(&handler("a"))).await.unwrap();
            let Err(QueueError::Unavailable(why)) = taken else { panic!("{taken:?}") };
            assert!(
                why.contains("begins with event 49") && why.contains("brevdue verify"),
                "{why}"
            );
        }
        assert_eq!(metrics.store_damaged.get(), 1);
        for page in [OLDEST, Page { limit: 1000, newest: true }] {
            assert!(matches!(queue.events(page).await, Err(QueueError::Unavailable(_))));
        }
        assert!(matches!(queue.event(Seq(50)).await, Err(QueueError::Unavailable(_))));
        assert_eq!(queue.event(Seq(5)).await, Err(QueueError::NotFound));
        assert_eq!(queue.event(Seq(500)).await, Err(QueueError::NotFound));
        // It goes on with what it can.
        let health = queue.health();
        assert!(matches!(&health, Health::Damaged(why) if why.contains("event 49")), "{health:?}");
        assert_eq!(append(&queue, &["91"]).await, [stored(91)]);
        assert_eq!(queue.event(Seq(52)).await.unwrap().event.attributes().id, "52");
        let census = queue.census().await.unwrap();
        assert_eq!((census.handlers[0].pending, census.handlers[0].oldest), (43, None));
        queue.close().await.unwrap();
        bench.repaired().await;
        let queue = bench.open().await;
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != "91") {
            ids.extend(done(&queue, 1).await);
        }
        assert!(ids.ends_with(&numbers(52..=91)), "{ids:?}");
    }
}

#[tokio::test]
async fn a_hole_is_not_deleted_over() {
    for missing in [false, true] {
        let mut bench = bench();
        bench.options.retain = DAY;
        let queue = bench.open().await;
        fill(&queue, 1, 90).await;
        assert_eq!(done(&queue, 90).await, numbers(1..=90));
        queue.close().await.unwrap();
        let damage = move |db: &Db| {
            if missing { db.remove(keys::event(49)) } else { db.flip(keys::event(49)) }
        };
        bench.tamper(damage).await;
        let queue = bench.open_end().await;
        bench.clock.advance(2 * DAY);
        append(&queue, &["91"]).await;
        assert_eq!(done(&queue, 1).await, ["91"]);
        until("the records before it are gone", || queue.shared.state().oldest == 49).await;
        for newest in [false, true] {
            let listed = queue.events(Page { limit: 1000, newest }).await;
            let Err(QueueError::Unavailable(why)) = listed else { panic!("{listed:?}") };
            assert!(why.contains("event 49"), "{why}");
        }
        queue.close().await.unwrap();
        assert_eq!(queue.shared.metrics.store_damaged.get(), 1);
        bench
            .tamper(|db| {
                assert_eq!(bounds(db).oldest, 49);
                assert!(db.get(keys::event(46)).is_none());
                assert!(db.get(keys::event(52)).is_some());
            })
            .await;
        assert!(!bench.verified().await.whole);
    }
}

/// A repair notes what is lost; what is missing right behind that is no part of it.
#[tokio::test]
async fn a_hole_behind_lost_events_is_not_taken_for_lost() {
    let bench = bench();
    ninety(&bench).await;
    bench
        .tamper(|db| {
            let key = keys::event(49);
            let old = db.get(&key).unwrap();
            let gap = gap(&old);
            let less = size(&key, &old) - size(&key, &gap);
            db.insert(key, gap);
            let run = db.range(keys::ids(0)..keys::ids(50)).pop().unwrap().0;
            change_run(db, keys::number_of(&run).unwrap(), |run| run.bytes -= less);
        })
        .await;
    assert!(bench.verified().await.whole);
    bench.tamper(|db| db.remove(keys::event(52))).await;
    let queue = bench.open_end().await;
    assert_eq!(done(&queue, 28).await, numbers(21..=48));
    let taken = queue.take(&handler("a")).await;
    let Err(QueueError::Unavailable(why)) = taken else { panic!("{taken:?}") };
    assert!(why.contains("event 52"), "{why}");
}

/// A closed store with large records 1 to 300, one event each: handler `b` has all but the last ten.
async fn three_hundred(bench: &mut Bench) {
    // Runs of ten ids: a start reads the records of the first.
    bench.options.dedup_max = 64 * 10;
    let queue = bench.open().await;
    for first in (1..=300).step_by(10) {
        let batch = (first..first + 10).map(|n| large(&format!("event {n}"), 5000)).collect();
        queue.append(batch).await.unwrap();
    }
    for _ in 0..290 {
        let delivery = take(&queue, "b").await;
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    queue.close().await.unwrap();
}

/// Flips a bit of this event wherever it stands in sled's file, as a failing disk would.
fn flip_under_sled(bench: &Bench, id: &str) {
    let path = bench.sled().join("db");
    let (mut bytes, marker) = (fs::read(&path).unwrap(), format!("\"id\":\"{id}\""));
    let found: Vec<_> = memmem::find_iter(&bytes, &marker).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + 2] ^= 1;
    }
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

/// A damaged page of sled is damage of its records: nothing is reopened for it.
#[tokio::test]
async fn a_page_that_is_damaged_under_a_running_store_stops_only_who_needs_it() {
    let mut bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    three_hundred(&mut bench).await;
    let queue = bench.open_end().await;
    flip_under_sled(&bench, "event 150");
    let mut came = 0;
    let why = loop {
        match timeout(Duration::from_secs(60), queue.take(&handler("a"))).await.unwrap() {
            Ok(delivery) => {
                came += 1;
                assert_eq!(id(&delivery), format!("event {came}"));
                queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(&why, QueueError::Unavailable(why) if why.contains("verify")), "{why:?}");
    // A page holds up to sixteen records, which have one event each here.
    assert!((130..150).contains(&came), "{came}");
    let works = || {
        let health = queue.health();
        assert!(matches!(health, Health::Damaged(_)) && !queue.shared.state().broken, "{health:?}");
    };
    for round in 0..5 {
        works();
        assert_eq!(append(&queue, &[&format!("new {round}")]).await, [stored(301 + round)]);
        works();
        let taken = timeout(Duration::from_secs(60), queue.take(&handler("a"))).await.unwrap();
        assert!(matches!(taken, Err(QueueError::Unavailable(_))), "{taken:?}");
        let census = queue.census().await.unwrap();
        assert_eq!(census.handlers[0].oldest, None, "as a scrape reads it");
    }
    for number in 291..=300 {
        settle(&queue, "b", &format!("event {number}"), Verdict::Done).await;
    }
    works();
    assert_eq!(queue.shared.metrics.store_damaged.get(), 1);
    queue.close().await.unwrap();
}

/// The writer meets the damaged page while it deletes what all have.
#[tokio::test]
async fn a_page_that_is_damaged_is_not_deleted_over() {
    let mut bench = Bench::new(&[("b", StartAt::Oldest)]);
    bench.options.retain = 10 * DAY;
    three_hundred(&mut bench).await;
    let queue = bench.open_end().await;
    flip_under_sled(&bench, "event 150");
    bench.clock.advance(20 * DAY);
    until("it is told", || matches!(queue.health(), Health::Damaged(_))).await;
    assert_eq!(append(&queue, &["new"]).await, [stored(301)]);
    let oldest = queue.shared.state().oldest;
    assert!((131..=150).contains(&oldest), "{oldest}");
    settle(&queue, "b", "event 291", Verdict::Done).await;
    assert!(matches!(queue.health(), Health::Damaged(_)) && !queue.shared.state().broken);
    queue.close().await.unwrap();
}

/// Without it, sled can find something older that is whole with what the write-ahead log has; or
/// nothing at all, if that has gone on.
#[tokio::test]
async fn of_a_page_that_is_damaged_a_verification_tells_and_a_repair_loses_nothing_else() {
    for more in [0, 120] {
        let mut bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
        three_hundred(&mut bench).await;
        let queue = bench.open_end().await;
        let retry = Verdict::RetryAfter(DAY, failure("500"));
        for (id, verdict) in [("1", retry), ("2", Verdict::Bury(failure("no")))] {
            settle(&queue, "a", &format!("event {id}"), verdict).await;
        }
        for batch in 0..more {
            let events = (0..10).map(|n| large(&format!("more {batch} {n}"), 15_000)).collect();
            queue.append(events).await.unwrap();
        }
        queue.close().await.unwrap();
        // sled begins to read behind the page, from now on.
        bench.open_end().await.close().await.unwrap();
        flip_under_sled(&bench, "event 150");
        let report = bench.verified().await;
        assert!(!report.whole && report.faults[0].contains("cannot read all"), "{report:?}");
        bench.repaired().await;
        let report = bench.verified().await;
        assert!(report.whole, "{report:?}");
        assert_eq!((report.holds.retries, report.holds.dead_letters), (1, 1));
        assert!(report.holds.lost_before <= 1 && report.holds.next == 301 + 10 * more);
        let queue = bench.open_end().await;
        let last = if more == 0 { "event 300" } else { "more 119 9" };
        assert_eq!(append(&queue, &[last]).await, [Appended::Duplicate]);
        for number in (3..=300).filter(|number| more == 0 || *number != 150) {
            settle(&queue, "a", &format!("event {number}"), Verdict::Done).await;
        }
        settle(&queue, "b", "event 291", Verdict::Done).await;
        queue.close().await.unwrap();
    }
}
