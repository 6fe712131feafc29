//! Verifying and repairing: every damage is named, and what is whole goes on.

use std::{fs::DirBuilder, os::unix::fs::FileExt};

use super::*;
use crate::{
    queue::{
        Bookmark, DeadLetterId, Letter, RawPush,
        sled::{
            ack_window::AckWindow,
            codec::{Value, values::Cursor},
            write::high_water::HighWater,
        },
    },
    store::codec::{Kind, encode},
};

fn raw() -> RawPush {
    RawPush { hook: "h".parse().unwrap(), media_type: "x/y".into(), body: "?".into() }
}

/// A closed store with something of everything: 20 events one to a record, of which 1 is done, 2
/// waits for a retry, 3 is dead, 4 is large; and an undecodable push.
async fn full(bench: &Bench) {
    let queue = bench.open().await;
    for number in 1..=20 {
        let filling = if number == 4 { 300_000 } else { 10 };
        queue.append(vec![large(&number.to_string(), filling)]).await.unwrap();
    }
    let seen = Bookmark { name: "feed|x".parse().unwrap(), place: "here".into() };
    queue.append_with(Vec::new(), Some(seen)).await.unwrap();
    queue.bury_raw(raw(), failure("no JSON")).await.unwrap();
    for verdict in
        [Verdict::Done, Verdict::RetryAfter(DAY, failure("500")), Verdict::Bury(failure("no"))]
    {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    queue.close().await.unwrap();
}

/// Takes all that there is to deliver; the ids, sorted by number.
async fn drained(bench: &Bench, queue: &SledQueue) -> Vec<u32> {
    bench.clock.advance(2 * DAY);
    let mut ids = Vec::new();
    while queue.census().await.unwrap().handlers[0].oldest.is_some() {
        let Ok(delivery) = timeout(Duration::from_secs(1), queue.take(&handler("a"))).await else {
            continue;
        };
        let delivery = delivery.unwrap();
        ids.push(id(&delivery).parse().unwrap());
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_whole_store_is_whole_and_verifying_changes_nothing() {
    let bench = Bench::one();
    full(&bench).await;
    let before = fs::read(bench.sled().join("db")).unwrap();
    let report = bench.verified().await;
    assert_eq!((report.whole, report.opens, &report.faults[..]), (true, true, &[][..]));
    let holds = &report.holds;
    // 1 to 3 are settled, so they may be gone from the log.
    assert_eq!((holds.next, holds.events, holds.large_events), (21, 17, 1));
    assert_eq!((holds.retries, holds.dead_letters, holds.undecodable), (1, 1, 1));
    assert_eq!((holds.dedup_ids, holds.handlers[0].pending), (20, 17));
    assert!(bench.repaired().await.kept_aside.is_none());
    assert_eq!(fs::read(bench.sled().join("db")).unwrap(), before);
    assert!(!bench.options.directory.join("verify").exists());
}

#[tokio::test]
async fn a_store_in_use_and_no_store_are_said() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let directory = bench.options.directory.clone();
    let nowhere = bench.directory.path().join("nowhere");
    let result = spawn_blocking(move || (verify(&directory, &[]), verify(&nowhere, &[]))).await;
    let (in_use, none) = result.unwrap();
    assert!(matches!(in_use, Err(OpenError::Locked(_))));
    assert!(none.unwrap_err().to_string().contains("no store in"));
    assert!(!bench.directory.path().join("nowhere").exists());
    drop(queue);
}

/// What is done to an entry, what the report then says, and which events are delivered after the
/// repair.
type Damage = (&'static str, fn(&Db), &'static str, fn(u32) -> bool);

const DAMAGES: &[Damage] = &[
    ("a record", |db| db.flip(keys::event(9)), "event 9: malformed: its checksum", |n| n != 9),
    ("no record", |db| db.remove(keys::event(9)), "event 9 is missing", |n| n != 9),
    ("the last record", |db| db.remove(keys::event(20)), "event 20 is missing", |n| n != 20),
    ("the first record", |db| db.remove(keys::event(4)), "event 4 is missing", |n| n != 4),
    (
        "a part",
        |db| db.remove(part(&keys::event(4), 2)),
        "event 4: malformed: a part of it is missing",
        |n| n != 4,
    ),
    (
        "records swapped",
        |db| db.insert(keys::event(7), db.get(keys::event(8)).unwrap()),
        "another record than its key says",
        |n| n != 7,
    ),
    ("ids", |db| db.flip(keys::ids(1)), "the ids of the events from 1 on", |_| true),
    ("no ids", |db| db.remove(keys::ids(1)), "the ids of the events 1 to", |_| true),
    ("the cursor", |db| db.flip(db.first(keys::CURSORS)), "the cursor of handler a", |_| true),
    ("a retry", |db| db.flip(db.first(keys::RETRIES)), "the retry of event 2", |n| n != 2),
    ("a dead letter", |db| db.flip(db.first(keys::DEAD)), "the dead letter a:3", |_| true),
    ("a push", |db| db.flip(db.first(keys::RAW)), "undecodable push raw:1", |_| true),
    ("the bounds", |db| db.flip(keys::LOG), "m|log: malformed", |_| true),
    ("no bounds", |db| db.remove(keys::LOG), "missing", |_| true),
    ("the dedup key", |db| db.flip(keys::DEDUP), "m|dedup: malformed", |_| true),
    ("no dedup key", |db| db.remove(keys::DEDUP), "events but no dedup key", |_| true),
    (
        "the store's id",
        |db| {
            let mut id = db.notes.get("id").unwrap().unwrap().to_vec();
            id[10] ^= 1;
            db.notes.insert("id", id).unwrap();
        },
        "the store's note id",
        |_| true,
    ),
    (
        "no store's id",
        |db| assert!(db.notes.remove("id").unwrap().is_some()),
        "the store's id is missing",
        |_| true,
    ),
    (
        "another store's id",
        |db| {
            db.notes.insert("id", encode(Kind::NOTE, &[7_u8; 16])).unwrap();
        },
        "of another store",
        |_| true,
    ),
    (
        "the last changes",
        |db| db.insert(keys::NOTED, 0_u64.encode()),
        "the last changes are missing",
        |_| true,
    ),
    (
        "a stranger",
        |db| db.insert(b"z|what", b"".to_vec()),
        "z|what: malformed: it is none of ours",
        |_| true,
    ),
    (
        "a part of nothing",
        |db| db.insert(part(&keys::event(5), 1), b"".to_vec()),
        "part 1 of the record that begins with event 5",
        |_| true,
    ),
];

#[tokio::test]
async fn every_damage_is_named_and_a_repair_keeps_all_the_rest() {
    for (name, damage, words, whole) in DAMAGES {
        let bench = Bench::one();
        full(&bench).await;
        bench.tamper(damage).await;
        let report = bench.verified().await;
        assert!(!report.whole, "{name}");
        assert!(report.faults.iter().any(|fault| fault.contains(words)), "{name}: {report:?}");
        assert!(!report.repair.is_empty());
        let done = bench.repaired().await;
        assert_eq!((&done.faults, &done.repair), (&report.faults, &report.repair), "{name}");
        let aside = done.kept_aside.unwrap();
        assert!(
            aside.join("store/sled/db").exists() && aside.join("high-water").exists(),
            "{name}"
        );
        let after = bench.verified().await;
        assert!(after.whole, "{name}: {after:?}");
        let queue = bench.open().await;
        // 1 was done, and 3 is dead. What is missing may be found again in the file.
        let mut ids = drained(&bench, &queue).await;
        ids.retain(|n| whole(*n));
        let expected: Vec<u32> = (2..=20).filter(|n| *n != 3 && whole(*n)).collect();
        assert_eq!(ids, expected, "{name}");
        let fresh = queue.append(vec![arrival("new")]).await.unwrap();
        assert_eq!(fresh, [stored(21)], "{name}");
        assert!(verified_again(&bench, queue).await.whole, "{name}");
    }
}

async fn verified_again(bench: &Bench, queue: SledQueue) -> Report {
    queue.close().await.unwrap();
    bench.verified().await
}

#[tokio::test]
async fn dead_letters_and_identities_outlive_a_repair() {
    let bench = Bench::one();
    full(&bench).await;
    bench.tamper(|db| db.remove(keys::event(9))).await;
    bench.repaired().await;
    let queue = bench.open().await;
    let letters = queue.dead_letters(None, OLDEST).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].letter, Letter::Raw(raw()));
    assert_eq!(letters[1].id, DeadLetterId::Delivery(handler("a"), Seq(3)));
    for known in ["1", "3", "8", "20"] {
        assert_eq!(append(&queue, &[known]).await, [Appended::Duplicate], "{known}");
    }
    let seen = queue.bookmark(&"feed|x".parse().unwrap()).await.unwrap();
    assert_eq!(seen.as_deref(), Some(&b"here"[..]));
    // It was removed by sled's own means, so sled's file still has it.
    assert!(ids_in_log(&queue).await.contains(&"9".to_owned()));
}

/// Writes over a piece of a file.
fn scribble(file: &std::path::Path, at: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0xA5; 16], at).unwrap();
}

#[tokio::test]
async fn what_sled_cannot_open_is_searched_for_what_is_whole() {
    let bench = Bench::one();
    full(&bench).await;
    let db = bench.sled().join("db");
    // The header of the first segment: sled does not know any more what follows.
    scribble(&db, 0);
    let report = bench.verified().await;
    assert!(!report.whole, "{report:?}");
    let done = bench.repaired().await;
    assert!(done.kept_aside.is_some());
    let queue = bench.open().await;
    let ids = drained(&bench, &queue).await;
    let undelivered: Vec<u32> = (4..=20).collect();
    assert!(undelivered.iter().all(|number| ids.contains(number)), "{ids:?} {report:?}");
    assert_eq!(append(&queue, &["20"]).await, [Appended::Duplicate]);
    assert!(verified_again(&bench, queue).await.whole);
}

#[tokio::test]
async fn a_lost_database_is_said_and_a_repair_begins_where_it_was() {
    let bench = Bench::one();
    full(&bench).await;
    fs::remove_dir_all(bench.sled()).unwrap();
    fs::remove_file(bench.wal()).unwrap();
    let report = bench.verified().await;
    assert!(report.faults.iter().any(|fault| fault.contains("finds nothing")), "{report:?}");
    assert!(
        report.faults.iter().any(|fault| fault.contains("events 4 to 20 are not to be found")),
        "{report:?}"
    );
    bench.repaired().await;
    let queue = bench.open().await;
    assert_eq!(append(&queue, &["1"]).await, [stored(21)], "no number is given twice");
}

#[tokio::test]
async fn what_a_lost_database_held_is_found_in_the_write_ahead_log_as_long_as_it_is_there() {
    let bench = Bench::one();
    full(&bench).await;
    fs::remove_dir_all(bench.sled()).unwrap();
    let report = bench.repaired().await;
    assert!(report.faults.iter().any(|fault| fault.contains("finds nothing")), "{report:?}");
    assert!(report.kept_aside.unwrap().join("store/wal").exists());
    let queue = bench.open().await;
    let ids = drained(&bench, &queue).await;
    assert!((4..=20).all(|number| ids.contains(&number)), "{ids:?}");
}

#[tokio::test]
async fn a_write_ahead_log_that_is_lost_or_another_times_is_said_and_a_repair_goes_on_without_it() {
    for lost in [true, false] {
        let bench = Bench::one();
        full(&bench).await;
        let wal = bench.wal();
        let earlier = fs::read(&wal).unwrap();
        for _ in 0..2 {
            bench.reopen(bench.open().await).await.close().await.unwrap();
        }
        fs::remove_file(&wal).unwrap();
        if !lost {
            fs::write(&wal, earlier).unwrap();
        }
        let words =
            if lost { "the write-ahead log is missing" } else { "its last commits are missing" };
        let refused = bench.try_open().await.unwrap_err().to_string();
        assert!(refused.contains(words) && refused.contains("--repair"), "{refused}");
        let report = bench.repaired().await;
        assert!(report.faults.iter().any(|fault| fault.contains(words)), "{report:?}");
        let queue = bench.open().await;
        let ids = drained(&bench, &queue).await;
        let expected: Vec<u32> = (2..=20).filter(|number| *number != 3).collect();
        assert_eq!(ids, expected);
        assert!(verified_again(&bench, queue).await.whole);
    }
}

#[tokio::test]
async fn a_damaged_high_water_file_is_written_anew() {
    let bench = Bench::one();
    full(&bench).await;
    scribble(&bench.options.directory.join("high-water"), 8);
    let refused = bench.try_open().await.unwrap_err().to_string();
    assert!(refused.contains("high-water"), "{refused}");
    assert!(!bench.verified().await.whole);
    bench.repaired().await;
    assert!(bench.verified().await.whole);
    assert_eq!(bench.open().await.census().await.unwrap().events, 17);
}

#[tokio::test]
async fn without_sleds_note_of_its_segments_it_is_refused_and_a_repair_makes_it_anew() {
    for left in [None, Some(""), Some("segment_size: 2097153\n")] {
        let bench = Bench::one();
        full(&bench).await;
        let (conf, db) = (bench.sled().join("conf"), bench.sled().join("db"));
        let before = fs::read(&db).unwrap();
        match left {
            None => fs::remove_file(&conf).unwrap(),
            Some(left) => fs::write(&conf, left).unwrap(),
        }
        let refused = bench.try_open().await.unwrap_err().to_string();
        assert!(refused.contains("conf is missing or cannot be read"), "{refused}");
        assert!(fs::read(&db).unwrap() == before, "it was not touched");
        let report = bench.repaired().await;
        assert!(report.faults.iter().any(|fault| fault.contains("conf is missing")), "{report:?}");
        let queue = bench.open().await;
        assert_eq!(queue.dead_letters(None, OLDEST).await.unwrap().len(), 2);
        let expected: Vec<u32> = (2..=20).filter(|number| *number != 3).collect();
        assert_eq!(drained(&bench, &queue).await, expected);
        assert!(verified_again(&bench, queue).await.whole);
    }
}

#[tokio::test]
async fn a_store_whose_first_start_was_cut_off_by_a_power_loss_is_begun_anew() {
    let bench = Bench::one();
    DirBuilder::new().recursive(true).create(bench.sled()).unwrap();
    fs::write(bench.sled().join("conf"), "").unwrap();
    fs::write(bench.sled().join("db"), [0; 4096]).unwrap();
    let queue = bench.open().await;
    assert_eq!(append(&queue, &["1"]).await, [stored(1)]);
}

#[tokio::test]
async fn a_log_of_which_sled_has_nothing_whole_is_put_back_from_its_file() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.close().await.unwrap();
    bench.tamper(|db| db.flip(keys::event(1))).await;
    let report = bench.repaired().await;
    assert!(report.repair.iter().any(|step| step.contains("put back 1 ")), "{report:?}");
    let queue = bench.open().await;
    assert_eq!(drained(&bench, &queue).await, [1]);
}

#[tokio::test]
async fn ids_of_events_that_are_gone_outlive_the_loss_of_the_bounds() {
    for lost in [false, true] {
        let bench = Bench::one();
        let queue = bench.open().await;
        for number in 1..=9 {
            append(&queue, &[&number.to_string()]).await;
        }
        done(&queue, 5).await;
        bench.reopen(queue).await.close().await.unwrap();
        let damage = move |db: &Db| {
            assert!(db.get(keys::event(5)).is_none(), "it left the log");
            if lost { db.remove(keys::LOG) } else { db.flip(keys::LOG) }
        };
        bench.tamper(damage).await;
        bench.repaired().await;
        let queue = bench.open().await;
        for number in 1..=9 {
            let again = append(&queue, &[&number.to_string()]).await;
            assert_eq!(again, [Appended::Duplicate], "{number}");
        }
    }
}

#[tokio::test]
async fn a_high_water_file_of_another_store_moves_no_handler_on() {
    let bench = Bench::one();
    full(&bench).await;
    let at = bench.clock.now();
    let mark = HighWater { store: [7; 16], next: 21, low: 15, count: 0, at };
    fs::write(bench.options.directory.join("high-water"), mark.encode()).unwrap();
    bench.tamper(|db| db.flip(db.first(keys::CURSORS))).await;
    bench.repaired().await;
    let queue = bench.open().await;
    let ids = drained(&bench, &queue).await;
    assert!((4..=20).all(|number| ids.contains(&number)), "{ids:?}");
}

#[tokio::test]
async fn a_retry_whose_event_comes_by_the_log_is_left_out() {
    let bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3"]).await;
    for verdict in [Verdict::Done, Verdict::RetryAfter(DAY, failure("500")), Verdict::Done] {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            let (window, seen) = (AckWindow::starting_at(1), Timestamp::default());
            let cursor = Cursor { window, seen, paused: false };
            db.insert(keys::cursor(&handler("a")), cursor.encode());
        })
        .await;
    let report = bench.repaired().await;
    assert!(report.faults[0].contains("the handler's cursor is before it"), "{report:?}");
    assert!(bench.verified().await.whole);
    let queue = bench.open().await;
    assert_eq!(drained(&bench, &queue).await, [1, 2, 3]);
}

#[tokio::test]
async fn of_a_group_that_is_found_only_what_was_not_settled_comes_again() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3", "4"]).await;
    for verdict in [Verdict::Done, Verdict::RetryAfter(DAY, failure("500")), Verdict::Done] {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    queue.close().await.unwrap();
    scribble(&bench.sled().join("db"), 0);
    assert!(!bench.repaired().await.opens);
    let queue = bench.open().await;
    assert_eq!(drained(&bench, &queue).await, [2, 4]);
}

/// Where the last changes are missing, a cursor can be missing without a trace: its handler would
/// begin at the end.
#[tokio::test]
async fn a_handler_whose_cursor_is_gone_with_the_last_changes_misses_nothing() {
    let bench = Bench::new(&[("a", StartAt::Now)]);
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3"]).await;
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            db.remove(keys::cursor(&handler("a")));
            db.insert(keys::NOTED, 0_u64.encode());
        })
        .await;
    let report = bench.repaired().await;
    assert!(report.faults[0].contains("the last changes are missing"), "{report:?}");
    let queue = bench.open().await;
    assert_eq!(drained(&bench, &queue).await, [1, 2, 3]);
}
