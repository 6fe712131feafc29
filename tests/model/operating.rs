//! What an operator asks of a store: replay, pause and forget. Part of the suite of conformance.

use brevdue::{
    event::Arrival,
    queue::{DeadLetterId, Delivery, Queue, QueueError, ReplayFrom, Seq, Verdict},
};

use crate::{
    conformance::{settle, store},
    support::{ALL, SECOND, Store, at, failure, handler, handlers, id, take, try_take},
};

/// What comes now, with its attempt; all of it is done with.
async fn come<Q: Queue>(queue: &Q, name: &str) -> Vec<(String, u32)> {
    let mut came = Vec::new();
    while let Some(delivery) = try_take(queue, &handler(name)).await {
        came.push((id(&delivery).to_owned(), delivery.attempt));
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    came
}

/// These, each for the first time.
fn first(ids: &[&str]) -> Vec<(String, u32)> {
    ids.iter().map(|id| ((*id).to_owned(), 1)).collect()
}

fn key<R>(delivery: &Delivery<R>) -> String {
    Arrival::idempotency_key(&delivery.stored.origin, delivery.stored.event.attributes())
}

pub(crate) async fn replay_in_order<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "i"])).await;
    let (name, clock) = (handler("h"), made.clock().clone());
    let mut seqs = store(&queue, &["1", "2"]).await;
    clock.advance(SECOND);
    let later = clock.now();
    seqs.extend(store(&queue, &["3", "4"]).await);
    let once = take(&queue, "h").await;
    let keys = key(&once);
    queue.settle(once.receipt, Verdict::Done).await.unwrap();
    assert_eq!(come(&queue, "h").await, first(&["2", "3", "4"]));
    for (from, expected) in [
        (ReplayFrom::Oldest, &["1", "2", "3", "4"][..]),
        (ReplayFrom::Seq(seqs[1]), &["2", "3", "4"]),
        (ReplayFrom::Seq("0".parse().unwrap()), &["1", "2", "3", "4"]),
        (ReplayFrom::Time(later), &["3", "4"]),
        (ReplayFrom::Time(later.before(SECOND / 2)), &["3", "4"]),
        (ReplayFrom::Time(later.before(SECOND)), &["1", "2", "3", "4"]),
        (ReplayFrom::Time(later.after(SECOND)), &[]),
    ] {
        let events = queue.replay(&name, from).await.unwrap();
        assert_eq!(usize::try_from(events), Ok(expected.len()), "{from:?}");
        assert_eq!(at(&queue, &name).await.pending, events);
        assert_eq!(come(&queue, "h").await, first(expected), "{from:?}");
    }
    queue.replay(&name, ReplayFrom::Oldest).await.unwrap();
    let again = take(&queue, "h").await;
    assert_eq!((again.attempt, key(&again), again.since), (1, keys, clock.now()));
    assert_eq!(at(&queue, &handler("i")).await.pending, 4, "the other one is where it was");
}

pub(crate) async fn replay_wakes<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    store(&queue, &["1"]).await;
    settle(&queue, "h", "1", Verdict::Done).await;
    let name = handler("h");
    let (taken, events) = tokio::join!(take(&queue, "h"), queue.replay(&name, ReplayFrom::Oldest));
    assert_eq!((id(&taken), events), ("1", Ok(1)));
}

/// In flight, waiting, just succeeded, in flight as a retry, given back: none comes twice.
pub(crate) async fn replay_doubles_nothing<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let (name, clock) = (handler("h"), made.clock().clone());
    let seqs = store(&queue, &["1", "2", "3", "4", "5", "6"]).await;
    let in_flight = take(&queue, "h").await;
    settle(&queue, "h", "2", Verdict::RetryAfter(10 * SECOND, failure("waits"))).await;
    settle(&queue, "h", "3", Verdict::Done).await;
    for expected in ["4", "5"] {
        settle(&queue, "h", expected, Verdict::RetryAfter(SECOND, failure("x"))).await;
    }
    let given_back = take(&queue, "h").await;
    clock.advance(SECOND);
    settle(&queue, "h", "4", Verdict::Done).await;
    let as_retry = take(&queue, "h").await;
    assert_eq!((id(&as_retry), as_retry.attempt), ("5", 2));
    drop(given_back);
    assert_eq!(queue.replay(&name, ReplayFrom::Oldest).await, Ok(2));
    let now = at(&queue, &name).await;
    assert_eq!((now.pending, now.in_flight, now.retrying), (5, 2, 1));
    assert_eq!(come(&queue, "h").await, first(&["3", "4", "6"]));

    // Settled, it is settled; given back, it comes again as what it was.
    drop(in_flight);
    settle(&queue, "h", "1", Verdict::RetryAfter(SECOND, failure("x"))).await;
    queue.settle(as_retry.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    assert_eq!(come(&queue, "h").await, []);
    assert_eq!(queue.replay(&name, ReplayFrom::Seq(seqs[0])).await, Ok(4));
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    assert_eq!(come(&queue, "h").await, first(&["3", "4", "5", "6"]));
    clock.advance(10 * SECOND);
    assert_eq!(come(&queue, "h").await, [("1".to_owned(), 2), ("2".to_owned(), 2)]);
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    assert_eq!(come(&queue, "h").await, []);
}

pub(crate) async fn replay_and_dead_letters<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let (name, clock) = (handler("h"), made.clock().clone());
    let seqs = store(&queue, &["1"]).await;
    let letter = DeadLetterId::Delivery(name.clone(), seqs[0]);
    settle(&queue, "h", "1", Verdict::Bury(failure("first"))).await;
    clock.advance(SECOND);
    let reasons = async || -> Vec<String> {
        let letters = queue.dead_letters(None, ALL).await.unwrap();
        assert_eq!(usize::try_from(at(&queue, &name).await.dead_letters), Ok(letters.len()));
        letters.into_iter().map(|letter| letter.failure.reason).collect()
    };
    let bytes = queue.census().await.unwrap().live_bytes;
    // It stays, and what is buried again takes its place.
    assert_eq!(queue.replay(&name, ReplayFrom::Oldest).await, Ok(1));
    assert_eq!(reasons().await, ["first"]);
    settle(&queue, "h", "1", Verdict::Bury(failure("other"))).await;
    assert_eq!(reasons().await, ["other"]);
    assert_eq!(queue.dead_letter(&letter).await.unwrap().buried, clock.now());
    assert_eq!(queue.census().await.unwrap().live_bytes, bytes, "it takes the room of one");

    // Retried while its event is on its way again, it only goes: there is one delivery.
    for on_its_way in ["in the log", "in flight", "a retry"] {
        queue.replay(&name, ReplayFrom::Oldest).await.unwrap();
        match on_its_way {
            "in flight" => {
                let in_flight = take(&queue, "h").await;
                queue.revive(&letter).await.unwrap();
                assert!(try_take(&queue, &name).await.is_none(), "it is given out");
                drop(in_flight);
            }
            "a retry" => {
                let later = Verdict::RetryAfter(SECOND, failure("x"));
                settle(&queue, "h", "1", later).await;
                queue.revive(&letter).await.unwrap();
                clock.advance(SECOND);
            }
            _ => queue.revive(&letter).await.unwrap(),
        }
        assert_eq!(reasons().await, [""; 0], "{on_its_way}");
        let taken = take(&queue, "h").await;
        assert!(try_take(&queue, &name).await.is_none(), "{on_its_way}: twice");
        queue.settle(taken.receipt, Verdict::Bury(failure("again"))).await.unwrap();
        assert!(try_take(&queue, &name).await.is_none(), "{on_its_way}: again");
        assert_eq!(at(&queue, &name).await.pending, 0, "{on_its_way}");
    }
    // Done after a replay, the letter is still there, and can be retried.
    queue.replay(&name, ReplayFrom::Oldest).await.unwrap();
    settle(&queue, "h", "1", Verdict::RetryAfter(SECOND / 10, failure("x"))).await;
    clock.advance(SECOND / 10);
    settle(&queue, "h", "1", Verdict::Done).await;
    queue.revive(&letter).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    assert_eq!(come(&queue, "h").await.len(), 1);
    assert_eq!(at(&queue, &name).await.dead_letters, 0);
}

pub(crate) async fn replay_refusals<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "gone"])).await;
    let name = handler("h");
    let seqs = store(&queue, &["1", "2", "3"]).await;
    let far: Seq = "99".parse().unwrap();
    let first_held = take(&queue, "h").await;
    settle(&queue, "h", "2", Verdict::Done).await;
    let now = made.clock().now();
    for from in
        [ReplayFrom::Seq(seqs[1]), ReplayFrom::Seq(far), ReplayFrom::Time(now.after(SECOND))]
    {
        let refused = queue.replay(&name, from).await;
        assert_eq!(refused, Err(QueueError::NotSoFar(seqs[0])), "{from:?}");
    }
    assert_eq!(come(&queue, "h").await, first(&["3"]), "a refusal changes nothing");
    assert_eq!(queue.replay(&name, ReplayFrom::Seq(seqs[0])).await, Ok(2));
    drop(first_held);
    assert_eq!(come(&queue, "h").await, first(&["1", "2", "3"]));
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    for unknown in ["gone", "never"] {
        let refused = queue.replay(&handler(unknown), ReplayFrom::Oldest).await;
        assert_eq!(refused, Err(QueueError::NotFound), "{unknown}");
        assert_eq!(queue.pause(&handler(unknown), true).await, Err(QueueError::NotFound));
    }
    queue.close().await.unwrap();
    assert_eq!(queue.replay(&name, ReplayFrom::Oldest).await, Err(QueueError::Closed));
}

pub(crate) async fn pausing<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "i"])).await;
    let (name, clock) = (handler("h"), made.clock().clone());
    store(&queue, &["1", "2", "3"]).await;
    settle(&queue, "h", "1", Verdict::RetryAfter(SECOND, failure("x"))).await;
    let in_flight = take(&queue, "h").await;
    for _ in 0..2 {
        queue.pause(&name, true).await.unwrap();
        assert!(try_take(&queue, &name).await.is_none());
    }
    queue.settle(in_flight.receipt, Verdict::Done).await.unwrap();
    clock.advance(SECOND);
    assert!(try_take(&queue, &name).await.is_none(), "a retry waits, too");
    store(&queue, &["4"]).await;
    let now = at(&queue, &name).await;
    assert_eq!((now.paused, now.pending, now.retrying), (true, 2, 1));
    assert!(!at(&queue, &handler("i")).await.paused);
    settle(&queue, "i", "1", Verdict::Done).await;
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h", "i"])).await;
    assert!(at(&queue, &name).await.paused, "over a restart");
    assert!(try_take(&queue, &name).await.is_none());
    let (taken, resumed) = tokio::join!(take(&queue, "h"), queue.pause(&name, false));
    assert_eq!((id(&taken), taken.attempt, resumed), ("1", 2, Ok(())));
    drop(taken);
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h", "i"])).await;
    assert!(!at(&queue, &name).await.paused);
    let expected = [("1".to_owned(), 2), ("3".to_owned(), 1), ("4".to_owned(), 1)];
    assert_eq!(come(&queue, "h").await, expected);
}

pub(crate) async fn forgetting<S: Store>(mut made: S) {
    let both = handlers(&["h", "gone"]);
    let queue = made.open(&both).await;
    let (name, gone) = (handler("h"), handler("gone"));
    let seqs = store(&queue, &["1", "2", "3"]).await;
    for name in ["h", "gone"] {
        settle(&queue, name, "1", Verdict::Bury(failure(name))).await;
        settle(&queue, name, "2", Verdict::RetryAfter(SECOND, failure("x"))).await;
    }
    assert_eq!(queue.forget(&gone).await, Err(QueueError::Configured));
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    assert!(!at(&queue, &gone).await.configured);
    assert_eq!(queue.forget(&name).await, Err(QueueError::Configured));
    queue.forget(&gone).await.unwrap();
    assert_eq!(queue.forget(&gone).await, Err(QueueError::NotFound));
    let letter = DeadLetterId::Delivery(gone.clone(), seqs[0]);
    assert_eq!(queue.dead_letter(&letter).await, Err(QueueError::NotFound));
    assert_eq!(queue.dead_letters(None, ALL).await.unwrap().len(), 1);
    queue.close().await.unwrap();
    drop(queue);
    made.clock().advance(SECOND);
    let queue = made.open(&both).await;
    assert_eq!(queue.dead_letters(None, ALL).await.unwrap().len(), 1);
    let anew = at(&queue, &gone).await;
    assert_eq!((anew.pending, anew.retrying, anew.dead_letters), (0, 0, 0), "it begins anew");
    let expected = [("2".to_owned(), 2), ("3".to_owned(), 1)];
    assert_eq!(come(&queue, "h").await, expected, "the other one has lost nothing");
}
