//! What bounds the queue: dead letters, bytes, room on the disk, and the disk's patience.

use super::*;
use crate::{
    queue::{DeadLetterId, RawPush},
    store::{Class, disk::fault::Fault, fault},
};

/// Dead letters by id, once there are this many.
async fn dead(queue: &SledQueue, count: usize) -> Vec<String> {
    let counted = async {
        loop {
            let letters = queue.dead_letters(None, OLDEST).await.unwrap();
            if letters.len() == count {
                return letters.iter().map(|letter| letter.id.to_string()).collect();
            }
        }
    };
    timeout(Duration::from_secs(60), counted).await.unwrap()
}

async fn bury(queue: &SledQueue, bytes: usize) {
    // Each another one.
    let mut body = vec![b'?'; bytes.saturating_sub(8)];
    body.extend(fastrand::u64(..).to_be_bytes());
    let body = Bytes::from(body);
    let push = RawPush { hook: "h".parse().unwrap(), media_type: "x/y".into(), body };
    queue.bury_raw(push, failure("no JSON")).await.unwrap();
}

#[tokio::test]
async fn dead_letters_beyond_their_count_go_oldest_first_and_are_counted() {
    let mut bench = Bench::one();
    bench.options.dead_letters.max = 3;
    let metrics = Metrics::default();
    let (options, clock, counted) = (bench.options.clone(), bench.clock.clone(), metrics.clone());
    let open = move || SledQueue::open(options, clock, counted);
    let queue = spawn_blocking(open).await.unwrap().unwrap();
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    for _ in 0..4 {
        bench.clock.advance(Duration::from_secs(1));
        bury(&queue, 10).await;
    }
    assert_eq!(dead(&queue, 3).await, ["raw:2", "raw:3", "raw:4"]);
    until("they are counted", || metrics.dead_letters_dropped.get() == 2).await;
    let queue = bench.reopen(queue).await;
    assert_eq!(dead(&queue, 3).await, ["raw:2", "raw:3", "raw:4"]);
    assert_eq!(queue.census().await.unwrap().handlers[0].dead_letters, 0);
}

#[tokio::test]
async fn dead_letters_beyond_their_bytes_go_oldest_first_and_with_their_parts() {
    let mut bench = Bench::one();
    bench.options.dead_letters.bytes = 1_500_000;
    let queue = bench.open().await;
    for _ in 0..3 {
        bury(&queue, 700_000).await;
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(dead(&queue, 2).await, ["raw:2", "raw:3"]);
    let freed = async {
        while queue.census().await.unwrap().live_bytes > 1_500_000 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), freed).await.unwrap();
    assert!(queue.census().await.unwrap().live_bytes > 1_400_000);
}

#[tokio::test]
async fn dead_letters_go_when_they_are_too_old_and_not_before() {
    let mut bench = Bench::one();
    bench.options.dead_letters.age = 10 * DAY;
    let queue = bench.open().await;
    bury(&queue, 10).await;
    bench.clock.advance(9 * DAY);
    bury(&queue, 10).await;
    let queue = bench.reopen(queue).await;
    assert_eq!(dead(&queue, 2).await.len(), 2);
    bench.clock.advance(2 * DAY);
    assert_eq!(dead(&queue, 1).await, ["raw:2"]);
    let gone = queue.dead_letter(&DeadLetterId::Raw(1)).await;
    assert_eq!(gone, Err(QueueError::NotFound));
}

#[tokio::test]
async fn on_a_full_disk_the_ballast_makes_way_for_opening_the_store_and_delivery_goes_on() {
    let mut bench = Bench::one();
    bench.options.max_bytes = 1 << 30;
    let ballast = bench.options.directory.join("ballast");
    let queue = bench.open().await;
    append(&queue, &["1", "2"]).await;
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 4 << 20);
    bench.options.min_free_disk = u64::MAX;
    let queue = bench.reopen(queue).await;
    assert!(ballast.exists());
    fault::fills(bench.directory.path(), &ballast);
    let delivery = take(&queue, "a").await;
    let verdict = Verdict::RetryAfter(DAY, failure("500"));
    let refused = queue.settle(delivery.receipt, verdict.clone()).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    let full = || matches!(queue.health(), Health::Full(_));
    until("it heals", || full() && !ballast.exists()).await;
    // Delivering goes on, and is written down.
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, verdict).await.unwrap();
    assert!(matches!(queue.append(vec![arrival("3")]).await, Err(QueueError::Full(_))));
    fault::mends(bench.directory.path());
    // The disk of this test has room, so the ballast is made again, and events come in.
    bench.options.min_free_disk = 0;
    let queue = bench.reopen(queue).await;
    assert!(ballast.exists() && queue.health() == Health::Writable);
    assert_eq!(append(&queue, &["3"]).await, [stored(3)]);
}

/// A quota can be full while the disk has room: only the opening itself shows it.
#[tokio::test]
async fn the_ballast_makes_way_at_a_start_that_meets_a_full_quota() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.close().await.unwrap();
    for has_ballast in [true, false] {
        if !has_ballast {
            fs::remove_file(bench.options.directory.join("ballast")).unwrap();
        }
        let disk = Disk::default();
        // Behind the high-water file, the clearing away, and what prepares the database.
        disk.put_in_the_way_after(Class::Open, Fault::Fails(libc::EDQUOT), 3);
        let opened = bench.start(disk.clone(), u64::MAX).await;
        assert_eq!(disk.unmet(), 0);
        match opened {
            Ok(queue) => {
                assert!(has_ballast);
                assert_eq!(append(&queue, &["1"]).await, [Appended::Duplicate]);
                queue.close().await.unwrap();
            }
            Err(error) => assert!(!has_ballast && error.to_string().contains("room"), "{error}"),
        }
    }
}

/// Nobody pushes: what is found is found by the writer itself.
#[tokio::test]
async fn a_store_without_room_says_so_and_when_it_has_some_by_itself() {
    const LOW: Health = Health::Full("the disk has less than min_free_disk");
    let mut bench = Bench::one();
    bench.options.min_free_disk = u64::MAX / 2;
    let disk = Disk::default();
    let queue = bench.start(disk.clone(), u64::MAX).await.unwrap();
    assert_eq!((queue.health(), queue.shared.metrics.queue_full.get()), (LOW, 1));
    // A disk that cannot say what it has counts as having room.
    disk.put_in_the_way(Class::Room, Fault::Fails(libc::EIO), 1_000_000);
    healed(&queue).await;
    assert_eq!(queue.shared.metrics.queue_full.get(), 0);
    append(&queue, &["1"]).await;
    disk.mend();
    until("it says so again", || queue.health() == LOW).await;
}

#[tokio::test]
async fn a_store_above_max_bytes_says_so_and_when_it_was_drained_by_itself() {
    const OVER: Health = Health::Full("max_bytes is reached");
    let mut bench = Bench::one();
    let queue = bench.open().await;
    for id in ["1", "2", "3"] {
        queue.append(vec![large(id, 10_000)]).await.unwrap();
    }
    bench.options.max_bytes = 20_000;
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.health(), OVER);
    done(&queue, 1).await;
    assert_eq!(queue.health(), OVER);
    done(&queue, 2).await;
    healed(&queue).await;
}

/// Others cannot take it; who reads the file does not see it.
#[tokio::test]
async fn what_the_file_grows_by_next_is_allocated_behind_its_end() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = Bench::one();
    let database = bench.options.directory.join("store/sled/db");
    let behind = || {
        let file = fs::metadata(&database).unwrap();
        (file.blocks() * 512).saturating_sub(file.len()) >> 20
    };
    for (max_bytes, kept) in [(1 << 20, 16), (1 << 40, 32)] {
        bench.options.max_bytes = max_bytes;
        let queue = bench.open().await;
        assert!((kept..kept + 2).contains(&behind()), "{} MiB of {kept}", behind());
        queue.close().await.unwrap();
    }
    bench.options.min_free_disk = u64::MAX;
    fs::remove_dir_all(bench.options.directory.join("store")).unwrap();
    fs::remove_file(bench.options.directory.join("high-water")).unwrap();
    bench.open().await;
    assert_eq!(behind(), 0, "what the disk has too little of is left to others");
}

#[tokio::test]
async fn a_sync_that_hangs_is_told_within_a_bound_and_ends_well_when_it_returns() {
    let bench = Bench::one();
    let disk = Disk::with_patience(Duration::from_secs(5));
    let queue = bench.start(disk, u64::MAX).await.unwrap();
    append(&queue, &["1"]).await;
    fault::hangs(bench.directory.path());
    let answered = timeout(Duration::from_secs(60), queue.append(vec![arrival("2")])).await;
    assert!(matches!(answered.unwrap(), Err(QueueError::Unavailable(_))));
    until("it is not ready", || matches!(queue.health(), Health::Failing(_))).await;
    let refused = queue.append(vec![arrival("3")]).await;
    assert!(matches!(&refused, Err(QueueError::Unavailable(why)) if why.contains("not answered")));
    assert_eq!(id(&take(&queue, "a").await), "1", "what is stored is delivered");
    fault::mends(bench.directory.path());
    until("it is ready", || queue.health() == Health::Writable).await;
    assert_eq!(append(&queue, &["2"]).await, [Appended::Duplicate], "the refused one was written");
}
