//! Stores that version 1 of the format wrote: every later version opens them and finds everything.
//!
//! `BREVDUE_WRITE_GOLDEN=1 cargo test --lib golden` writes them anew, which is right only before a
//! version is released.

use std::{collections::BTreeSet, env, os::unix::fs::FileExt, path::Path, process::Command};

use super::*;
use crate::{
    name::HookName,
    queue::{
        Bookmark, DeadLetterId, Letter, RawPush,
        sled::{
            codec::{
                DEAD, RETRY, Value,
                record::{Packing, decode_group, encode_event},
                run::Run,
                values::{Cursor, DedupKey, LogBounds, Tried, Undecodable},
            },
            read_error::whole,
            write::high_water::HighWater,
        },
    },
    store::{Files, Store},
};

/// It was closed: sled has all of it.
const CLOSED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v1.tar.gz");
/// It was killed: the write-ahead log has all of it.
const KILLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v1-wal.tar.gz");

fn tar(arguments: &[&str], directory: &Path) {
    let status = Command::new("tar").args(arguments).current_dir(directory).status().unwrap();
    assert!(status.success(), "tar {arguments:?}");
}

fn bench() -> Bench {
    Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)])
}

fn raw() -> RawPush {
    let body = Bytes::from(vec![b'?'; 100_000]);
    RawPush { hook: "h".parse().unwrap(), media_type: "text/plain".into(), body }
}

/// Something of everything. Handler `b` has done nothing but the first; `a` has done 1, retries 2,
/// gave up 3 and 4, and has done 6 out of order.
async fn write(bench: &Bench) -> SledQueue {
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    bench.clock.advance(Duration::from_secs(1));
    queue.append(vec![arrival("2"), arrival("3"), large("4", 200_000)]).await.unwrap();
    let by = Arrival { only_by_hook: Some("other".parse().unwrap()), ..arrival("2") };
    let from = vec!["other".parse().unwrap(), "hook".parse().unwrap()];
    queue.append(vec![Arrival { from, ..by }]).await.unwrap();
    let seen = Bookmark { name: "feed|x".parse().unwrap(), place: "here".into() };
    queue.append_with(vec![arrival("6"), arrival("7")], Some(seen)).await.unwrap();
    queue.bury_raw(raw(), failure("no JSON")).await.unwrap();
    let (first, mut taken) = (take(&queue, "b").await, Vec::new());
    queue.settle(first.receipt, Verdict::Done).await.unwrap();
    for _ in 1..=6 {
        taken.push(take(&queue, "a").await);
    }
    for delivery in taken {
        let verdict = match delivery.stored.seq.0 {
            2 => Verdict::RetryAfter(DAY, failure("500")),
            3 | 4 => Verdict::Bury(failure("no")),
            5 => continue,
            _ => Verdict::Done,
        };
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    let written = async {
        while queue.shared.state().unwritten() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), written).await.unwrap();
    queue
}

/// What [`write`] wrote is there, and goes on.
async fn read(bench: &Bench) {
    let holds = bench.verified().await;
    assert!(holds.whole, "{holds:?}");
    let (holds, pending) = (holds.holds.clone(), holds.holds.handlers.clone());
    assert_eq!((holds.oldest, holds.next, holds.events, holds.large_events), (2, 8, 6, 1));
    assert_eq!((holds.retries, holds.dead_letters, holds.undecodable), (1, 2, 1));
    assert_eq!(holds.dedup_ids, 7);
    assert_eq!(pending.iter().map(|of| of.pending).collect::<Vec<_>>(), [2, 6]);

    let queue = bench.open().await;
    assert_eq!(ids_in_log(&queue).await, ["2", "3", "4", "2", "6", "7"]);
    let seen = queue.bookmark(&"feed|x".parse().unwrap()).await.unwrap();
    assert_eq!(seen.as_deref(), Some(&b"here"[..]));
    let by_other = queue.event(Seq(5)).await.unwrap();
    assert_eq!(by_other.from, ["other".parse().unwrap()]);
    assert_eq!(by_other.already, ["hook".parse().unwrap()]);
    assert_eq!(by_other.received, Timestamp::from_millis(1_800_000_001_000));
    assert_eq!(queue.event(Seq(4)).await.unwrap().event, event("4", 200_000));
    for known in ["1", "2", "3", "6", "7"] {
        assert_eq!(append(&queue, &[known]).await, [Appended::Duplicate], "{known}");
    }
    let letters = queue.dead_letters(None, OLDEST).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.to_string()).collect();
    assert_eq!(ids, ["raw:1", "a:3", "a:4"]);
    assert_eq!(
        (&letters[0].letter, &letters[0].failure),
        (&Letter::Raw(raw()), &failure("no JSON"))
    );
    assert_eq!((letters[1].attempts, &letters[1].failure), (1, &failure("no")));
    let dead = DeadLetterId::Delivery(handler("a"), Seq(4));
    let Letter::Event(large) = queue.dead_letter(&dead).await.unwrap().letter else { panic!() };
    assert_eq!(large.event, event("4", 200_000));

    bench.clock.advance(2 * DAY);
    let (retried, fifth, seventh) =
        (take(&queue, "a").await, take(&queue, "a").await, take(&queue, "a").await);
    assert_eq!((id(&retried), retried.attempt), ("2", 2));
    assert_eq!((fifth.stored.seq, seventh.stored.seq), (Seq(5), Seq(7)));
    assert_eq!(take(&queue, "b").await.stored.seq, Seq(2));
    assert_eq!(append(&queue, &["8"]).await, [stored(8)]);
    queue.close().await.unwrap();
}

fn unpack(golden: &str) -> Bench {
    let bench = bench();
    fs::create_dir_all(&bench.options.directory).unwrap();
    tar(&["xzf", golden], &bench.options.directory);
    bench
}

#[tokio::test]
async fn the_stores_of_format_version_1_are_read_whole() {
    for golden in [CLOSED, KILLED] {
        let bench = unpack(golden);
        read(&bench).await;
        goes_on(&bench).await;
    }
}

/// All is delivered, and what was known is known.
async fn goes_on(bench: &Bench) {
    let queue = bench.open().await;
    while queue.census().await.unwrap().handlers.iter().any(|a| a.pending > 0) {
        for name in ["a", "b"] {
            let taken = timeout(Duration::from_millis(200), queue.take(&handler(name))).await;
            let Ok(delivery) = taken else { continue };
            queue.settle(delivery.unwrap().receipt, Verdict::Done).await.unwrap();
        }
    }
    queue.close().await.unwrap();
    let holds = bench.verified().await;
    assert!(holds.whole && holds.holds.events == 0 && holds.holds.dedup_ids == 8, "{holds:?}");
    assert_eq!(append(&bench.open().await, &["1", "7", "8"]).await, [Appended::Duplicate; 3]);
}

/// A value as it is written when it was read.
fn again(key: &[u8], value: &[u8]) -> Vec<u8> {
    match (key[0], key) {
        (keys::EVENTS, _) => {
            let (head, events) = decode_group(value).unwrap();
            let mut packing = Packing::new(head.first, head.received).with_ids(head.ids);
            for stored in &events {
                packing.push(&encode_event(stored), &[]);
            }
            packing.seal().1
        }
        (keys::IDS, _) => Run::decode(value).unwrap().encode(),
        (keys::CURSORS, _) => Cursor::decode(value).unwrap().encode(),
        (keys::RETRIES, _) => Tried::decode(RETRY, value).unwrap().encode(RETRY),
        (keys::DEAD, _) => Tried::decode(DEAD, value).unwrap().encode(DEAD),
        (keys::RAW, _) => Undecodable::decode(value).unwrap().encode(),
        (_, keys::DEDUP) => DedupKey::decode(value).unwrap().encode(),
        (_, keys::LOG) => LogBounds::decode(value).unwrap().encode(),
        (_, keys::HOOKS) => BTreeSet::<HookName>::decode(value).unwrap().encode(),
        (_, keys::NEXT_RAW | keys::NOTED) => u64::decode(value).unwrap().encode(),
        _ if key.starts_with(keys::BOOKMARK) => Bytes::decode(value).unwrap().encode(),
        _ => panic!("{}", key.escape_ascii()),
    }
}

#[test]
fn each_value_is_written_today_as_it_was_then() {
    for golden in [CLOSED, KILLED] {
        let bench = unpack(golden);
        let high_water = fs::read(bench.options.directory.join("high-water")).unwrap();
        assert_eq!(HighWater::decode(&high_water).unwrap().encode(), high_water);
        let files = Files(bench.options.directory.join("store"));
        let store = Store::open(&files, keys::LAYOUT, &Disk::default()).unwrap();
        let mut kinds = BTreeSet::new();
        for entry in store.view().entries() {
            let (key, value) = entry.unwrap();
            if key[0] == PARTS {
                continue;
            }
            let value = whole(store.view(), &key, &value).unwrap().unwrap();
            assert_eq!(again(&key, &value), *value, "{}", key.escape_ascii());
            kinds.insert(if key[0] == b'm' { key.to_vec() } else { vec![key[0]] });
        }
        assert_eq!(kinds.len(), 12, "something of everything: {kinds:?}");
    }
}

/// A repair finds what sled cannot open, in either file.
#[tokio::test]
async fn the_stores_of_format_version_1_can_be_repaired() {
    for golden in [CLOSED, KILLED] {
        for damaged in ["store/sled/db", "store/sled/conf", "high-water"] {
            let bench = unpack(golden);
            let file = bench.options.directory.join(damaged);
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(&[0xA5; 16], 0).unwrap();
            let (directory, now) = (bench.options.directory.clone(), bench.clock.now());
            let handlers = [handler("a"), handler("b")];
            let repaired = spawn_blocking(move || repair(&directory, &handlers, now));
            let report = repaired.await.unwrap().unwrap();
            let opens = damaged != "store/sled/db";
            assert!(report.kept_aside.is_some() && report.opens == opens, "{report:?}");
            let queue = bench.open().await;
            let large = queue.event(Seq(4)).await.unwrap();
            assert_eq!(large.event, event("4", 200_000));
            let letters = queue.dead_letters(None, OLDEST).await.unwrap().len();
            assert_eq!(letters, if opens { 3 } else { 1 }, "only undecodable pushes tell whose");
            queue.close().await.unwrap();
            assert!(bench.verified().await.whole);
        }
    }
}

/// What this version writes is the same, killed or closed.
#[tokio::test]
async fn what_is_written_today_reads_as_the_golden_stores_do() {
    let write_golden = |bench: &Bench, golden| {
        if env::var_os("BREVDUE_WRITE_GOLDEN").is_some() {
            let files = ["czf", golden, "--sparse", "lock", "high-water", "store"];
            tar(&files, &bench.options.directory);
        }
    };
    let bench = bench();
    let queue = write(&bench).await;
    write_golden(&bench, KILLED);
    queue.close().await.unwrap();
    write_golden(&bench, CLOSED);
    read(&bench).await;
}
