//! Values that are larger than an entry, on every way through the queue.

use super::*;
use crate::{
    queue::{DeadLetterId, Letter, RawPush},
    store::chunked::MAX_ENTRY,
};

const MIB: usize = 1024 * 1024;

/// The number of parts on disk.
async fn parts(bench: &Bench) -> usize {
    let (send, parts) = std::sync::mpsc::channel();
    let count = move |db: &Db| {
        assert!(db.values().iter().all(|value| value.len() <= MAX_ENTRY));
        send.send(db.range(keys::all(PARTS)).len()).unwrap();
    };
    bench.tamper(count).await;
    parts.recv().unwrap()
}

fn data(stored: &crate::queue::StoredEvent) -> usize {
    stored.event.json().len()
}

#[tokio::test]
async fn an_event_of_a_mebibyte_goes_every_way_and_leaves_nothing_behind() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let arrivals = vec![arrival("before"), large("big", MIB), arrival("after")];
    let sent = arrivals[1].event.json().clone();
    assert_eq!(queue.append(arrivals).await.unwrap(), [stored(1), stored(2), stored(3)]);
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.append(vec![large("big", MIB)]).await.unwrap(), [Appended::Duplicate]);
    assert_eq!(ids_in_log(&queue).await, ["before", "big", "after"]);
    assert_eq!(queue.event(Seq(2)).await.unwrap().event.json(), &sent);
    let live = queue.census().await.unwrap().live_bytes;
    for expected in ["before", "big", "after"] {
        let delivery = take(&queue, "a").await;
        assert_eq!(id(&delivery), expected);
        let verdict = match expected {
            "big" => Verdict::RetryAfter(DAY, failure("500")),
            _ => Verdict::Done,
        };
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    bench.clock.advance(DAY);
    let queue = bench.reopen(queue).await;
    let delivery = take(&queue, "a").await;
    assert_eq!((delivery.attempt, delivery.stored.event.json()), (2, &sent));
    queue.settle(delivery.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    let queue = bench.reopen(queue).await;
    let letter = DeadLetterId::Delivery(handler("a"), Seq(2));
    let Letter::Event(dead) = queue.dead_letter(&letter).await.unwrap().letter else { panic!() };
    assert_eq!(dead.event.json(), &sent);
    queue.revive(&letter).await.unwrap();
    let queue = bench.reopen(queue).await;
    let delivery = take(&queue, "a").await;
    assert_eq!((delivery.attempt, delivery.stored.event.json()), (3, &sent));
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    let queue = bench.reopen(queue).await;
    let after = queue.census().await.unwrap();
    assert_eq!((after.events, after.live_bytes), (0, 0), "{live} before");
    queue.close().await.unwrap();
    assert_eq!(parts(&bench).await, 0, "parts outlived their value");
}

#[tokio::test]
async fn a_large_undecodable_push_is_kept_whole_and_discarded_whole() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let body = Bytes::from(vec![7; MIB]);
    let push = RawPush { hook: "h".parse().unwrap(), media_type: "x/y".into(), body };
    queue.bury_raw(push.clone(), failure("no JSON")).await.unwrap();
    let queue = bench.reopen(queue).await;
    let letters = queue.dead_letters(None, OLDEST).await.unwrap();
    assert_eq!(letters[0].letter, Letter::Raw(push));
    queue.discard(&letters[0].id).await.unwrap();
    queue.close().await.unwrap();
    assert_eq!(parts(&bench).await, 0);
}

#[tokio::test]
async fn the_largest_that_a_body_can_become_is_stored_and_more_is_refused() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let longest = 6 * MIB + 256 * 1024;
    queue.append(vec![large("six", longest), large("again", longest)]).await.unwrap();
    let refused = queue.append(vec![large("nine", 9 * MIB)]).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let queue = bench.reopen(queue).await;
    let events = queue.events(OLDEST).await.unwrap();
    assert!(events.len() == 2 && events.iter().all(|stored| data(stored) > longest));
}

#[tokio::test]
async fn a_part_that_is_missing_or_of_another_value_is_noticed() {
    for swapped in [false, true] {
        let bench = Bench::one();
        let queue = bench.open().await;
        queue.append(vec![large("1", MIB), large("2", MIB)]).await.unwrap();
        queue.close().await.unwrap();
        let tamper = move |db: &Db| {
            let (one, two) = (part(&keys::event(1), 3), part(&keys::event(2), 3));
            let other = db.get(two).unwrap();
            db.remove(&one);
            if swapped {
                db.insert(one, other);
            }
        };
        bench.tamper(tamper).await;
        let error = bench.try_open().await.unwrap_err().to_string();
        assert!(error.contains("part"), "{error}");
    }
}

#[tokio::test]
async fn thousands_of_parts_make_no_blobs() {
    let bench = Bench::one();
    let queue = bench.open().await;
    for n in 0..40 {
        queue.append(vec![large(&n.to_string(), MIB), arrival(&format!("s{n}"))]).await.unwrap();
    }
    for _ in 0..40 {
        let delivery = take(&queue, "a").await;
        let verdict = Verdict::RetryAfter(DAY, failure(&"x".repeat(9000)));
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.events, census.handlers[0].retrying), (40, 40));
    let before = census.live_bytes;
    assert_eq!(bench.reopen(queue).await.census().await.unwrap().live_bytes, before);
}
