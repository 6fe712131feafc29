//! Stores that fail, fill up, or are not as they were left.

use std::fs::File;

use super::*;
use crate::{
    queue::sled::codec::{Value, run::Run, values::LogBounds},
    store::{chunked::MAX_ENTRY, fault},
};

#[tokio::test]
async fn a_second_opening_is_refused_while_the_first_lives() {
    let bench = Bench::one();
    let queue = bench.open().await;
    assert!(matches!(bench.try_open().await, Err(OpenError::Locked(_))));
    queue.close().await.unwrap();
    bench.open().await;
}

#[tokio::test]
async fn dropping_every_clone_ends_the_store() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    drop(queue);
    let reopened = async {
        loop {
            match bench.try_open().await {
                Err(OpenError::Locked(_)) => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    };
    let queue = timeout(Duration::from_secs(30), reopened).await.unwrap();
    assert_eq!(queue.census().await.unwrap().handlers[0].pending, 0);
}

#[tokio::test]
async fn a_damaged_record_is_refused_with_a_message() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.close().await.unwrap();
    bench.tamper(|db| db.flip(keys::event(1))).await;
    let error = bench.try_open().await.unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[tokio::test]
async fn missing_records_are_noticed() {
    for lost in [1, 2, 3] {
        let bench = Bench::one();
        let queue = bench.open().await;
        for id in ["1", "2", "3"] {
            append(&queue, &[id]).await;
        }
        queue.close().await.unwrap();
        bench.tamper(move |db| db.remove(keys::event(lost))).await;
        let opened = bench.try_open().await;
        assert!(matches!(opened, Err(OpenError::Damaged(_))), "{lost}: {opened:?}");
    }
}

#[tokio::test]
async fn a_store_that_lost_everything_does_not_open_as_a_new_one() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.close().await.unwrap();
    fs::remove_dir_all(bench.sled()).unwrap();
    let error = bench.try_open().await.unwrap_err().to_string();
    assert!(error.contains("finds nothing") && error.contains("verify --repair"), "{error}");
}

#[tokio::test]
async fn a_torn_snapshot_is_removed_and_the_log_read() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.close().await.unwrap();
    let torn = bench.sled().join("snap.0000000000000001.generating");
    fs::write(&torn, b"half").unwrap();
    let queue = bench.open().await;
    assert_eq!(ids_in_log(&queue).await, ["1"]);
    assert!(!torn.exists());
}

#[tokio::test]
async fn a_blob_file_is_refused() {
    let bench = Bench::one();
    bench.open().await.close().await.unwrap();
    let blob = bench.sled().join("blobs").join("1");
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    File::create(&blob).unwrap();
    let error = bench.try_open().await.unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    fs::remove_file(blob).unwrap();
}

#[tokio::test]
async fn at_max_bytes_it_is_full_until_deliveries_make_room() {
    let mut bench = Bench::one();
    bench.options.max_bytes = 100_000;
    let queue = bench.open().await;
    let mut stored = 0;
    let refused = loop {
        match queue.append(vec![large(&stored.to_string(), 10_000)]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Full(_)) && (9..=10).contains(&stored), "{stored}");
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    for _ in 0..3 {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    append_at_last(&queue, "x").await;
}

#[tokio::test]
async fn with_too_little_free_disk_it_is_full_and_delivers() {
    let mut bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    bench.options.min_free_disk = u64::MAX;
    let queue = bench.reopen(queue).await;
    assert!(matches!(queue.append(vec![arrival("2")]).await, Err(QueueError::Full(_))));
    let delivery = take(&queue, "a").await;
    let verdict = Verdict::RetryAfter(Duration::ZERO, failure("500"));
    queue.settle(delivery.receipt, verdict).await.unwrap();
    assert_eq!(take(&queue, "a").await.attempt, 2);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_it_heals_by_itself() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3"]).await;
    let done = take(&queue, "a").await;
    let flying = take(&queue, "a").await;
    fault::breaks(bench.directory.path());
    assert!(matches!(queue.append(vec![arrival("4")]).await, Err(QueueError::Unavailable(_))));
    failing(&queue).await;
    assert!(matches!(queue.append(vec![arrival("4")]).await, Err(QueueError::Unavailable(_))));
    queue.settle(done.receipt, Verdict::Done).await.unwrap();
    fault::mends(bench.directory.path());
    healed(&queue).await;
    append(&queue, &["4"]).await;
    assert_eq!(ids_in_log(&queue).await.last().map(String::as_str), Some("4"));
    let third = take(&queue, "a").await;
    assert_eq!(id(&third), "3", "1 is settled and 2 is in flight");
    drop(flying);
    assert_eq!(id(&take(&queue, "a").await), "2");
}

#[tokio::test]
async fn the_largest_records_make_no_blobs() {
    let bench = Bench::one();
    let queue = bench.open().await;
    for batch in 0..15 {
        let arrivals = (0..10).map(|n| large(&format!("{batch}-{n}"), 75_000)).collect();
        queue.append(arrivals).await.unwrap();
    }
    for _ in 0..60 {
        let delivery = take(&queue, "a").await;
        let verdict = Verdict::RetryAfter(DAY, failure(&"x".repeat(9000)));
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.census().await.unwrap().handlers[0].retrying, 60);
    queue.close().await.unwrap();
    bench.tamper(|db| assert!(db.values().iter().all(|v| v.len() <= MAX_ENTRY))).await;
}

#[tokio::test]
async fn ids_leave_the_disk_when_their_window_ends() {
    let mut bench = Bench::one();
    bench.options.dedup_window = DAY;
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            let head = Run::decode(&db.get(keys::ids(1)).unwrap()).unwrap().head;
            assert_eq!((head.first, head.count, head.ids.len()), (1, 1, 1));
            assert!(db.get(keys::event(1)).is_none());
            let bounds = LogBounds::decode(&db.get(keys::LOG).unwrap()).unwrap();
            assert_eq!(bounds, LogBounds { oldest: 2, next: 2, ids_from: 1 });
        })
        .await;
    let queue = bench.open().await;
    bench.clock.advance(2 * DAY);
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            assert!(db.get(keys::ids(1)).is_none());
            let bounds = LogBounds::decode(&db.get(keys::LOG).unwrap()).unwrap();
            assert_eq!(bounds, LogBounds { oldest: 2, next: 2, ids_from: 2 });
        })
        .await;
}

#[tokio::test]
async fn a_store_that_cannot_write_can_be_closed_and_says_that_it_could_not() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    fault::breaks(bench.directory.path());
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    let closed = timeout(Duration::from_secs(60), queue.close()).await.unwrap();
    assert!(matches!(closed, Err(QueueError::Unavailable(_))), "{closed:?}");
    assert_eq!(queue.append(vec![arrival("2")]).await, Err(QueueError::Closed));
    fault::mends(bench.directory.path());
    assert_eq!(append(&bench.open().await, &["1"]).await, [Appended::Duplicate]);
}
