//! Faults in each class of call to the disk, and panics outside of any: healed, or told.

use super::*;
use crate::{
    queue::sled::tests::panics::Moment,
    store::{Class, disk::fault::Fault, fault},
};

const FAULTS: [Fault; 2] = [Fault::Panics, Fault::Fails(libc::EIO)];

/// Makes the queue do what is of this class, whatever becomes of it.
async fn provoke(queue: &SledQueue, class: Class) {
    match class {
        Class::Read => drop(queue.event(Seq(2)).await),
        Class::Write => drop(queue.append(vec![arrival("refused")]).await),
        Class::Checkpoint => {
            for number in 0..20 {
                drop(queue.append(vec![large(&format!("large {number}"), 500_000)]).await);
            }
        }
        Class::Open | Class::Drop => {
            // As after a read that failed. A sync that fails as well would have sled panic a second
            // time while it is dropped, which ends the process.
            queue.shared.state().broken = true;
            queue.shared.wake_writer.notify_one();
        }
        // The writer looks by itself.
        Class::Room => {}
    }
}

#[tokio::test]
async fn a_fault_in_any_call_to_the_disk_is_healed_and_loses_nothing() {
    let classes =
        [Class::Open, Class::Read, Class::Write, Class::Checkpoint, Class::Drop, Class::Room];
    for (class, fault) in classes.into_iter().flat_map(|class| FAULTS.map(|fault| (class, fault))) {
        let mut bench = Bench::one();
        bench.options.max_bytes = 1 << 30;
        let disk = Disk::default();
        let queue = bench.start(disk.clone(), u64::MAX).await.unwrap();
        let known = ["1", "2", "3", "4", "5", "6"];
        append(&queue, &known).await;
        settle(&queue, "a", "1", Verdict::RetryAfter(DAY, failure("500"))).await;
        settle(&queue, "a", "2", Verdict::Bury(failure("no"))).await;
        let in_flight = take(&queue, "a").await;
        assert_eq!(id(&in_flight), "3");

        disk.put_in_the_way(class, fault, 1);
        provoke(&queue, class).await;
        until("it is met", || disk.unmet() == 0).await;
        append_at_last(&queue, "7").await;
        // The writer may hear of a failed read only now, and refuse another call.
        for id in known {
            append_at_last(&queue, id).await;
        }
        healed(&queue).await;

        assert_eq!(append(&queue, &known).await, [Appended::Duplicate; 6], "{class:?} {fault:?}");
        queue.settle(in_flight.receipt, Verdict::Done).await.unwrap();
        let expected = ["4", "5", "6"];
        assert_eq!(done(&queue, 3).await, expected, "{class:?} {fault:?}");
        let queue = bench.reopen(queue).await;
        assert_eq!(append(&queue, &["7", "1"]).await, [Appended::Duplicate; 2]);
        let of = queue.census().await.unwrap().handlers[0].clone();
        assert_eq!((of.retrying, of.dead_letters), (1, 1), "{class:?} {fault:?}");
        queue.close().await.unwrap();
        let report = bench.verified().await;
        assert!(report.whole, "{class:?} {fault:?}: {report:?}");
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_itself_is_healed_while_it_is_at_work() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.shared.put_panic_in_the_way(Moment::Step);
    let refused = queue.append(vec![arrival("2")]).await;
    assert!(refused.is_err(), "{refused:?}");
    append_at_last(&queue, "3").await;
    assert_eq!(append(&queue, &["1"]).await, [Appended::Duplicate]);
    assert_eq!(queue.health(), Health::Writable);
}

/// Nothing can heal it, so that the process is to end.
#[tokio::test]
async fn the_end_of_the_writers_thread_is_told() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    queue.shared.put_panic_in_the_way(Moment::Between);
    let ended = timeout(Duration::from_secs(60), queue.ended()).await.unwrap();
    let Err(QueueError::Unavailable(why)) = ended else { panic!("{ended:?}") };
    assert!(why.contains("the store's thread ended: a test"), "{why}");
    assert_eq!(queue.health(), Health::Failing(why.clone()));
    assert_eq!(queue.append(vec![arrival("2")]).await, Err(QueueError::Unavailable(why)));
    assert_eq!(queue.shared.metrics.store_writable.get(), 0);
    drop(queue);
    assert_eq!(append(&bench.open().await, &["1"]).await, [Appended::Duplicate]);
}

/// sled's own drop panics then, which must not meet the panic that was there before.
#[tokio::test]
async fn the_end_of_the_writers_thread_is_told_while_every_sync_fails() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    fault::breaks(bench.directory.path());
    queue.shared.put_panic_in_the_way(Moment::Between);
    let ended = timeout(Duration::from_secs(60), queue.ended()).await.unwrap();
    fault::mends(bench.directory.path());
    let Err(QueueError::Unavailable(why)) = ended else { panic!("{ended:?}") };
    assert!(why.contains("the store's thread ended: a test"), "{why}");
    drop(queue);
    assert_eq!(append(&bench.open().await, &["1"]).await, [Appended::Duplicate]);
}

#[tokio::test]
async fn what_a_sync_failed_of_at_the_end_is_read_from_the_disk_at_the_next_start() {
    let bench = Bench::one();
    let reread = bench.options.directory.join("store/reread");
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    fault::breaks(bench.directory.path());
    queue.close().await.unwrap_err();
    fault::mends(bench.directory.path());
    assert!(reread.exists());
    assert_eq!(append(&bench.open().await, &["1"]).await, [Appended::Duplicate]);
    assert!(!reread.exists());
}

#[tokio::test]
async fn a_queue_that_was_closed_ended_well() {
    let bench = Bench::one();
    let queue = bench.open().await;
    assert!(timeout(Duration::from_millis(200), queue.ended()).await.is_err(), "it runs");
    queue.close().await.unwrap();
    assert_eq!(timeout(Duration::from_secs(60), queue.ended()).await.unwrap(), Ok(()));
}
