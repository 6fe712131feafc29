//! Taking and settling: retries, dead letters, handlers that come and go.

use futures_util::FutureExt;

use super::*;
use crate::{
    queue::{DeadLetterId, Letter, RawPush, sled::state::retries::Retry},
    store::fault,
};

fn retry(after: Duration) -> Verdict {
    Verdict::RetryAfter(after, failure("500"))
}

#[tokio::test]
async fn two_handlers_each_get_every_event_in_order() {
    let bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    append(&queue, &["1", "2"]).await;
    for name in ["a", "b"] {
        for expected in ["1", "2"] {
            let delivery = take(&queue, name).await;
            assert_eq!((id(&delivery), delivery.attempt), (expected, 1));
            queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
        }
        assert!(queue.take(&handler(name)).now_or_never().is_none());
    }
    assert_eq!(queue.take(&handler("c")).await.map(|_| ()), Err(QueueError::NotFound));
}

#[tokio::test]
async fn a_waiting_handler_is_woken_by_an_event() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let mut waiting = Box::pin(take(&queue, "a"));
    assert!(waiting.as_mut().now_or_never().is_none());
    append(&queue, &["1"]).await;
    assert_eq!(id(&waiting.await), "1");
}

#[tokio::test]
async fn a_dropped_receipt_is_given_out_again() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1", "2"]).await;
    let first = take(&queue, "a").await;
    let second = take(&queue, "a").await;
    assert_eq!(queue.census().await.unwrap().handlers[0].in_flight, 2);
    let mut waiting = Box::pin(take(&queue, "a"));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(first);
    let again = waiting.await;
    assert_eq!((id(&again), again.attempt), ("1", 1));
    drop((second, again));
    assert_eq!(queue.census().await.unwrap().handlers[0].in_flight, 0);
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_counts_on_across_a_restart() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let began = bench.clock.now();
    for attempt in 1..=3 {
        let delivery = take(&queue, "a").await;
        assert_eq!((delivery.attempt, delivery.since), (attempt, began));
        queue.settle(delivery.receipt, retry(Duration::from_secs(60))).await.unwrap();
        assert!(queue.take(&handler("a")).now_or_never().is_none());
        bench.clock.advance(Duration::from_secs(60));
    }
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.events, census.handlers[0].retrying, census.handlers[0].pending), (0, 1, 0));
    assert_eq!(census.handlers[0].oldest, Some(began));
    append(&queue, &["2"]).await;
    let delivery = take(&queue, "a").await;
    assert_eq!(
        (id(&delivery), delivery.attempt, delivery.since),
        ("1", 4, began),
        "before new ones"
    );
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.handlers[0].retrying, census.handlers[0].pending), (0, 1));
}

#[tokio::test]
async fn a_retry_is_not_due_early_after_a_restart() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, retry(Duration::from_secs(60))).await.unwrap();
    let queue = bench.reopen(queue).await;
    bench.clock.advance(Duration::from_secs(59));
    assert!(queue.take(&handler("a")).now_or_never().is_none());
    let mut waiting = Box::pin(take(&queue, "a"));
    assert!(waiting.as_mut().now_or_never().is_none());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(waiting.await.attempt, 2);
}

#[tokio::test]
async fn what_is_settled_out_of_order_does_not_come_again_after_a_restart() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3"]).await;
    let first = take(&queue, "a").await;
    let second = take(&queue, "a").await;
    queue.settle(second.receipt, Verdict::Done).await.unwrap();
    drop(first);
    let queue = bench.reopen(queue).await;
    let (one, three) = (take(&queue, "a").await, take(&queue, "a").await);
    assert_eq!((id(&one), id(&three)), ("1", "3"));
    assert!(queue.take(&handler("a")).now_or_never().is_none());
}

#[tokio::test]
async fn a_dead_letter_is_kept_until_it_is_revived_or_discarded() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1", "2"]).await;
    for _ in 0..2 {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    }
    let queue = bench.reopen(queue).await;
    let letters = queue.dead_letters(None, OLDEST).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].attempts, &letters[0].failure), (1, &failure("no")));
    let unknown = queue.dead_letters(Some(&handler("b")), OLDEST).await;
    assert_eq!(unknown, Err(QueueError::NotFound));
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.clone()).collect();
    bench.clock.advance(DAY);
    queue.discard(&ids[0]).await.unwrap();
    assert_eq!(queue.discard(&ids[0]).await, Err(QueueError::NotFound));
    assert_eq!(queue.dead_letter(&ids[0]).await, Err(QueueError::NotFound));
    queue.revive(&ids[1]).await.unwrap();
    assert_eq!(queue.revive(&ids[1]).await, Err(QueueError::NotFound));
    let queue = bench.reopen(queue).await;
    let delivery = take(&queue, "a").await;
    assert_eq!((id(&delivery), delivery.attempt, delivery.since), ("2", 2, bench.clock.now()));
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.live_bytes, census.handlers[0].dead_letters), (0, 0));
}

#[tokio::test]
async fn an_undecodable_push_is_kept_raw_and_cannot_be_revived() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let push = RawPush {
        hook: "hook".parse().unwrap(),
        media_type: "application/json".into(),
        body: Bytes::from_static(b"{"),
    };
    queue.bury_raw(push.clone(), failure("no JSON")).await.unwrap();
    let queue = bench.reopen(queue).await;
    let other = RawPush { body: Bytes::from_static(b"{ "), ..push.clone() };
    let pushes =
        [&push, &other, &other, &push].map(|push| queue.bury_raw(push.clone(), failure("no JSON")));
    assert!(futures_util::future::join_all(pushes).await.iter().all(Result::is_ok));
    let letters = queue.dead_letters(None, OLDEST).await.unwrap();
    let (first, second) = (DeadLetterId::Raw(1), DeadLetterId::Raw(2));
    assert_eq!(letters.len(), 2, "there is one letter of each");
    assert_eq!((&letters[0].id, &letters[1].id), (&first, &second));
    assert_eq!((letters[0].attempts, &letters[0].letter), (0, &Letter::Raw(push.clone())));
    assert_eq!(queue.revive(&first).await, Err(QueueError::Undeliverable));
    queue.discard(&first).await.unwrap();
    queue.discard(&second).await.unwrap();
    let queue = bench.reopen(queue).await;
    queue.bury_raw(push, failure("no JSON")).await.unwrap();
    let id = &queue.dead_letters(None, OLDEST).await.unwrap()[0].id;
    assert_eq!(*id, DeadLetterId::Raw(3), "a number is not used twice");
}

#[tokio::test]
async fn a_new_handler_begins_now_or_with_the_oldest() {
    let mut bench = Bench::new(&[("a", StartAt::Now)]);
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    for name in ["now", "oldest"] {
        let at = if name == "now" { StartAt::Now } else { StartAt::Oldest };
        bench.options.handlers.push((handler(name), at));
    }
    let queue = bench.reopen(queue).await;
    append(&queue, &["2"]).await;
    let queue = bench.reopen(queue).await;
    for (name, expected) in [("a", "1"), ("now", "2"), ("oldest", "1")] {
        assert_eq!(id(&take(&queue, name).await), expected, "{name}");
    }
}

#[tokio::test]
async fn a_handler_that_left_the_configuration_keeps_its_place_and_holds_nothing() {
    let mut bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    append(&queue, &["1", "2"]).await;
    for verdict in [Verdict::Bury(failure("no")), Verdict::Done] {
        let delivery = take(&queue, "b").await;
        queue.settle(delivery.receipt, verdict).await.unwrap();
    }
    let dead = queue.dead_letters(None, OLDEST).await.unwrap()[0].id.clone();
    for _ in 0..2 {
        let delivery = take(&queue, "a").await;
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    let both = bench.options.handlers.clone();
    bench.options.handlers.truncate(1);
    let queue = bench.reopen(queue).await;
    append(&queue, &["3"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    assert_eq!(queue.revive(&dead).await, Err(QueueError::NotFound));
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.events, census.handlers[1].configured), (0, false));
    assert_eq!(census.handlers[1].dead_letters, 1);
    bench.options.handlers = both;
    let queue = bench.reopen(queue).await;
    append(&queue, &["4"]).await;
    assert_eq!(id(&take(&queue, "b").await), "4");
    assert!(queue.revive(&dead).await.is_ok());

    bench.options.handlers.truncate(1);
    let queue = bench.reopen(queue).await;
    bench.clock.advance(31 * DAY);
    let gone = async {
        while queue.census().await.unwrap().handlers.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.census().await.unwrap().handlers.len(), 1);
    assert_eq!(queue.dead_letters(None, OLDEST).await.unwrap(), []);
}

#[tokio::test]
async fn an_event_leaves_the_log_when_all_have_it_and_its_time_is_over() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    append(&queue, &["2"]).await;
    let queue = bench.reopen(queue).await;
    assert_eq!(ids_in_log(&queue).await, ["1", "2"]);
    bench.clock.advance(2 * DAY);
    let queue = bench.reopen(queue).await;
    assert_eq!(ids_in_log(&queue).await, ["2"]);
    assert_eq!(queue.census().await.unwrap().handlers[0].pending, 1);
}

#[tokio::test]
async fn a_closed_queue_says_so_and_wakes_those_who_wait() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let name = handler("a");
    let mut waiting = Box::pin(queue.take(&name));
    assert!(waiting.as_mut().now_or_never().is_none());
    queue.close().await.unwrap();
    assert_eq!(waiting.await.map(|_| ()), Err(QueueError::Closed));
    assert_eq!(queue.append(vec![arrival("1")]).await, Err(QueueError::Closed));
    assert_eq!(queue.census().await.map(|_| ()), Err(QueueError::Closed));
    assert_eq!(queue.close().await, Err(QueueError::Closed));
}

/// Its caller heard that the retry was not written, although it was.
#[tokio::test]
async fn a_delivery_that_became_a_retry_unnoticed_is_given_out_again_when_it_is_dropped() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    fault::breaks(bench.directory.path());
    let refused = queue.settle(take(&queue, "a").await.receipt, retry(Duration::ZERO)).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    // From memory, as an event, while nothing can be read.
    let again = take(&queue, "a").await;
    assert_eq!(again.attempt, 1);
    fault::mends(bench.directory.path());
    healed(&queue).await;
    assert_eq!(queue.census().await.unwrap().handlers[0].in_flight, 1);
    drop(again);
    let again = take(&queue, "a").await;
    assert_eq!((id(&again), again.attempt), ("1", 2), "it was written");
    queue.settle(again.receipt, Verdict::Done).await.unwrap();
    let census = bench.reopen(queue).await.census().await.unwrap();
    assert_eq!((census.handlers[0].pending, census.handlers[0].retrying), (0, 0));
}

#[tokio::test]
async fn a_retry_that_succeeds_while_the_store_fails_takes_no_room_afterwards() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    settle(&queue, "a", "1", retry(Duration::ZERO)).await;
    let again = take(&queue, "a").await;
    fault::breaks(bench.directory.path());
    assert!(queue.append(vec![arrival("1")]).await.is_ok(), "nothing is written");
    assert!(queue.append(vec![arrival("2")]).await.is_err());
    queue.settle(again.receipt, Verdict::Done).await.unwrap();
    fault::mends(bench.directory.path());
    healed(&queue).await;
    let empty = async {
        done(&queue, 1).await;
        while queue.census().await.unwrap().live_bytes > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(20), empty).await.is_ok(), "{:?}", queue.census().await);
}

#[tokio::test]
async fn a_retry_that_is_missing_is_told_and_not_taken_for_settled() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let lost = Retry { due: 7, ready: Duration::ZERO, bytes: 0 };
    queue.shared.state().retries(&handler("a"), 1, lost);
    let taken = timeout(Duration::from_secs(20), queue.take(&handler("a"))).await.unwrap();
    let Err(QueueError::Unavailable(why)) = taken else { panic!("{taken:?}") };
    assert!(why.contains("the retry of event 1 for handler a: malformed: it is missing"), "{why}");
    assert!(matches!(queue.health(), Health::Damaged(_)));
    assert_eq!(queue.census().await.unwrap().handlers[0].retrying, 1);
}
