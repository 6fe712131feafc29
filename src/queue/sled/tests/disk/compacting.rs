//! A drained store gives the room in sled's file back, and nothing is lost over it.

use super::{forgetting::engine, starting::copy, *};
use crate::{
    queue::{Bookmark, RawPush},
    store::{Class, disk::fault::Fault},
};

/// As large as a file must be that is worth compacting.
const LARGE: u64 = 256 << 20;

/// Makes sled's file as large as if much had been delivered: what is behind its end is free.
fn grow(bench: &Bench) {
    let file = fs::OpenOptions::new().write(true).open(bench.sled().join("db")).unwrap();
    file.set_len(LARGE).unwrap();
}

fn len(bench: &Bench) -> u64 {
    fs::metadata(bench.sled().join("db")).map_or(0, |file| file.len())
}

/// Something of everything: an event that is done, one that waits, one that is dead, a large one in
/// flight, a push, a bookmark.
async fn write(queue: &SledQueue) -> Delivery<Receipt> {
    append(queue, &["1", "2", "3"]).await;
    queue.append(vec![large("4", 300_000)]).await.unwrap();
    append(queue, &["5"]).await;
    let here = Bookmark { name: "feed|x".parse().unwrap(), place: "here".into() };
    queue.append_with(Vec::new(), Some(here)).await.unwrap();
    let push = RawPush { hook: "h".parse().unwrap(), media_type: "x/y".into(), body: "?".into() };
    queue.bury_raw(push, failure("no JSON")).await.unwrap();
    settle(queue, "a", "1", Verdict::Done).await;
    settle(queue, "a", "2", Verdict::RetryAfter(DAY, failure("500"))).await;
    settle(queue, "a", "3", Verdict::Bury(failure("no"))).await;
    take(queue, "a").await
}

/// All of that is there, and goes on.
async fn read(bench: &Bench, queue: SledQueue, in_flight: Delivery<Receipt>) {
    append_at_last(&queue, "6").await;
    for id in ["1", "2", "3", "4", "5", "6"] {
        assert_eq!(append(&queue, &[id]).await, [Appended::Duplicate], "{id}");
    }
    let place = queue.bookmark(&"feed|x".parse().unwrap()).await.unwrap();
    assert_eq!(place.as_deref(), Some(&b"here"[..]));
    assert_eq!(queue.dead_letters(None, OLDEST).await.unwrap().len(), 2);
    assert_eq!(id(&take(&queue, "a").await), "5");
    drop(in_flight);
    assert_eq!(take(&queue, "a").await.stored.event, event("4", 300_000));
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.census().await.unwrap().handlers[0].retrying, 1);
    assert_eq!(done(&queue, 3).await, ["4", "5", "6"]);
    queue.close().await.unwrap();
    let report = bench.verified().await;
    assert!(report.whole, "{report:?}");
}

#[tokio::test]
async fn a_large_file_with_little_in_it_is_written_anew_by_itself() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let in_flight = write(&queue).await;
    grow(&bench);
    let next = bench.options.directory.join("store.next");
    until("it is small", || len(&bench) < LARGE / 4 && !next.exists()).await;
    assert_eq!(queue.health(), Health::Writable);
    read(&bench, queue, in_flight).await;
}

#[tokio::test]
async fn a_fault_while_the_file_is_written_anew_loses_nothing() {
    for class in [Class::Open, Class::Read, Class::Checkpoint, Class::Drop] {
        for fault in [Fault::Panics, Fault::Fails(libc::EIO)] {
            let bench = Bench::one();
            let disk = Disk::default();
            let queue = bench.start(disk.clone(), u64::MAX).await.unwrap();
            let in_flight = write(&queue).await;
            disk.put_in_the_way(class, fault, 1);
            grow(&bench);
            until("it is met", || disk.unmet() == 0).await;
            let next = bench.options.directory.join("store.next");
            until("it is small", || len(&bench) < LARGE / 4 && !next.exists()).await;
            healed(&queue).await;
            read(&bench, queue, in_flight).await;
        }
    }
}

#[tokio::test]
async fn a_copy_that_could_not_be_finished_takes_no_room() {
    let bench = Bench::one();
    let queue = bench.open().await;
    drop(write(&queue).await);
    queue.close().await.unwrap();
    let mut engine = engine(&bench);
    grow(&bench);
    engine.shared.disk.put_in_the_way(Class::Drop, Fault::Fails(libc::EIO), 1);
    engine.compact().unwrap();
    assert_eq!(engine.shared.disk.unmet(), 0);
    let next = bench.options.directory.join("store.next");
    assert!(!next.exists() && len(&bench) == LARGE);
    engine.compact().unwrap();
    assert_eq!(len(&bench), LARGE, "not at once again");
    engine.let_go();
}

/// A kill before the new store stands in the old one's place, and one after that.
#[tokio::test]
async fn what_a_kill_leaves_of_either_store_is_cleared_away() {
    for made in [false, true] {
        let bench = Bench::one();
        let queue = bench.open().await;
        drop(write(&queue).await);
        queue.close().await.unwrap();
        let next = bench.options.directory.join("store.next");
        copy(&bench.options.directory.join("store"), &next);
        if made {
            fs::write(next.join("wal"), b"").unwrap();
        } else {
            fs::write(next.join("sled").join("db"), b"half").unwrap();
        }
        let queue = bench.open().await;
        assert!(!next.exists());
        let in_flight = take(&queue, "a").await;
        assert_eq!(id(&in_flight), "4");
        read(&bench, queue, in_flight).await;
    }
}
