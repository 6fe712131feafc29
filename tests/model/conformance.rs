//! The contract of a store as tests, the same for all. A new store is one more line in the list at
//! the end.

use brevdue::{
    event::Origin,
    queue::{
        Appended, Bookmark, BookmarkName, DeadLetterId, Health, Letter, Page, Queue, QueueError,
        RawPush, Seq, Verdict,
    },
};

use crate::operating::{
    forgetting, pausing, replay_and_dead_letters, replay_doubles_nothing, replay_in_order,
    replay_refusals, replay_wakes,
};
use crate::support::{
    ALL, Disk, Memory, SECOND, Store, arrival, at, clock, failure, handler, handlers, id, take,
    try_take,
};

pub(crate) async fn store<Q: Queue>(queue: &Q, ids: &[&str]) -> Vec<Seq> {
    let arrivals = ids.iter().map(|id| arrival(id, &["a"], false, 10)).collect();
    let appended = queue.append(arrivals).await.unwrap();
    let number = |appended| match appended {
        Appended::Stored(seq) => seq,
        Appended::Duplicate => panic!("an event was taken for a duplicate"),
    };
    appended.into_iter().map(number).collect()
}

pub(crate) async fn settle<Q: Queue>(queue: &Q, name: &str, expected: &str, verdict: Verdict) {
    let taken = take(queue, name).await;
    assert_eq!(id(&taken), expected);
    queue.settle(taken.receipt, verdict).await.unwrap();
}

async fn ids<Q: Queue>(queue: &Q, page: Page) -> Vec<String> {
    let events = queue.events(page).await.unwrap();
    events.iter().map(|stored| stored.event.attributes().id.clone()).collect()
}

async fn order_of_taking<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "i"])).await;
    let numbers = store(&queue, &["1", "2", "3"]).await;
    assert!(numbers.is_sorted());
    let (name, clock) = (handler("h"), made.clock().clone());
    settle(&queue, "h", "1", Verdict::RetryAfter(2 * SECOND, failure("x"))).await;
    settle(&queue, "h", "2", Verdict::RetryAfter(SECOND, failure("x"))).await;
    settle(&queue, "h", "3", Verdict::Done).await;
    assert!(try_take(&queue, &name).await.is_none(), "nothing is due");
    store(&queue, &["4"]).await;
    clock.advance(2 * SECOND);
    for expected in ["2", "1", "4"] {
        settle(&queue, "h", expected, Verdict::Done).await;
    }
    assert!(try_take(&queue, &name).await.is_none());
    for expected in ["1", "2", "3", "4"] {
        settle(&queue, "i", expected, Verdict::Done).await;
    }
    assert_eq!(queue.take(&handler("j")).await.map(drop), Err(QueueError::NotFound));
}

async fn leases<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    store(&queue, &["1", "2"]).await;
    let name = handler("h");
    let (first, second) = (take(&queue, "h").await, take(&queue, "h").await);
    assert!(try_take(&queue, &name).await.is_none(), "both are leased");
    drop(first);
    let again = take(&queue, "h").await;
    assert_eq!((id(&again), again.attempt), ("1", 1));
    drop((again, second));
    settle(&queue, "h", "1", Verdict::RetryAfter(SECOND, failure("x"))).await;
    made.clock().advance(SECOND);
    drop(take(&queue, "h").await);
    let retry = take(&queue, "h").await;
    assert_eq!((id(&retry), retry.attempt), ("1", 2));
}

async fn a_taker_that_waits_is_woken<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let (taken, stored) = tokio::join!(take(&queue, "h"), store(&queue, &["1"]));
    assert_eq!(taken.stored.seq, stored[0]);
    let again = async {
        drop(taken);
        take(&queue, "h").await
    };
    assert_eq!(id(&again.await), "1");
}

async fn attempts_and_times<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let clock = made.clock().clone();
    let stored = clock.now();
    store(&queue, &["1"]).await;
    clock.advance(SECOND);
    let began = clock.now();
    for attempt in 1..=3 {
        let taken = take(&queue, "h").await;
        assert_eq!((taken.attempt, taken.since), (attempt, began));
        assert_eq!(taken.stored.received, stored);
        let again = Verdict::RetryAfter(10 * SECOND, failure("x"));
        queue.settle(taken.receipt, again).await.unwrap();
        clock.advance(9 * SECOND);
        assert!(try_take(&queue, &handler("h")).await.is_none(), "too early");
        clock.advance(SECOND);
    }
}

async fn dedup<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let mut other_source = arrival("1", &["a"], false, 0);
    other_source.origin = Origin::Source("a".parse().unwrap());
    for (what, arrival, stored) in [
        ("new", arrival("1", &["a"], false, 0), true),
        ("again", arrival("1", &["a"], false, 0), false),
        ("with another body", arrival("1", &["a"], false, 9), false),
        ("by another hook", arrival("1", &["b", "a"], false, 0), false),
        ("of another origin", other_source, true),
        ("another id", arrival("2", &["a"], false, 0), true),
        ("only by a new hook", arrival("1", &["c", "a"], true, 0), true),
        ("only by that hook again", arrival("1", &["c", "a"], true, 0), false),
        ("only by one more", arrival("1", &["d", "a"], true, 0), true),
        ("new, only by its hook", arrival("3", &["c"], true, 0), true),
        ("then only by another", arrival("3", &["d"], true, 0), true),
        ("then by its own", arrival("3", &["a"], false, 0), false),
    ] {
        let appended = queue.append(vec![arrival]).await.unwrap();
        assert_eq!(matches!(appended[..], [Appended::Stored(_)]), stored, "{what}");
    }
    let names: Vec<(Vec<_>, Vec<_>)> = queue.events(ALL).await.unwrap()[3..]
        .iter()
        .map(|stored| {
            let text = |names: &[brevdue::name::HookName]| {
                names.iter().map(|name| name.as_str().to_owned()).collect()
            };
            (text(&stored.from), text(&stored.already))
        })
        .collect();
    let expected = [("c", vec!["a"]), ("d", vec!["a", "c"]), ("c", vec![]), ("d", vec!["c"])];
    for ((from, already), expected) in names.iter().zip(&expected) {
        assert_eq!((&from[0][..], already.iter().map(|a| &a[..]).collect()), *expected);
    }
    let twins = vec![arrival("9", &["a"], false, 0), arrival("9", &["b"], false, 0)];
    let appended = queue.append(twins).await.unwrap();
    assert!(matches!(appended[..], [Appended::Stored(_), Appended::Duplicate]));
}

async fn restart<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "gone"])).await;
    store(&queue, &["1", "2", "3", "4"]).await;
    settle(&queue, "h", "1", Verdict::Done).await;
    settle(&queue, "h", "2", Verdict::RetryAfter(SECOND, failure("x"))).await;
    settle(&queue, "h", "3", Verdict::Bury(failure("y"))).await;
    let leased = take(&queue, "h").await;
    queue.close().await.unwrap();
    assert_eq!(queue.settle(leased.receipt, Verdict::Done).await, Err(QueueError::Closed));
    assert_eq!(queue.append(Vec::new()).await, Err(QueueError::Closed));
    assert_eq!(queue.take(&handler("h")).await.map(drop), Err(QueueError::Closed));
    assert!(matches!(queue.health(), Health::Failing(_)));
    drop(queue);
    let queue = made.open(&handlers(&["h", "new"])).await;
    assert_eq!(queue.health(), Health::Writable);
    assert_eq!(queue.take(&handler("gone")).await.map(drop), Err(QueueError::NotFound));
    let known = queue.append(vec![arrival("1", &["a"], false, 10)]).await.unwrap();
    assert_eq!(known, [Appended::Duplicate], "settled, and known over a restart");
    settle(&queue, "h", "4", Verdict::Done).await;
    made.clock().advance(SECOND);
    let retry = take(&queue, "h").await;
    assert_eq!((id(&retry), retry.attempt), ("2", 2));
    assert!(try_take(&queue, &handler("new")).await.is_none(), "it begins now");
    store(&queue, &["5"]).await;
    settle(&queue, "new", "5", Verdict::Done).await;
    let census = queue.census().await.unwrap();
    let known: Vec<_> =
        census.handlers.iter().map(|at| (at.name.as_str(), at.configured)).collect();
    assert_eq!(known, [("gone", false), ("h", true), ("new", true)]);
}

async fn dead_letters<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h", "i"])).await;
    let clock = made.clock().clone();
    let seqs = store(&queue, &["1", "2"]).await;
    settle(&queue, "h", "1", Verdict::Bury(failure("first"))).await;
    clock.advance(SECOND);
    settle(&queue, "i", "1", Verdict::Bury(failure("second"))).await;
    let letters = queue.dead_letters(None, ALL).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|one| one.failure.reason.as_str()).collect();
    assert_eq!(reasons, ["first", "second"]);
    let id = DeadLetterId::Delivery(handler("h"), seqs[0]);
    assert_eq!((&letters[0].id, letters[0].attempts), (&id, 1));
    assert_eq!(queue.dead_letter(&id).await.unwrap(), letters[0]);
    assert_eq!(queue.dead_letters(Some(&handler("h")), ALL).await.unwrap(), letters[..1]);
    let unknown = queue.dead_letters(Some(&handler("unknown")), ALL).await;
    assert_eq!(unknown, Err(QueueError::NotFound));
    queue.revive(&id).await.unwrap();
    assert_eq!(queue.revive(&id).await, Err(QueueError::NotFound));
    let again = take(&queue, "h").await;
    assert_eq!((again.stored.seq, again.attempt, again.since), (seqs[0], 2, clock.now()));
    queue.settle(again.receipt, Verdict::Bury(failure("third"))).await.unwrap();
    assert_eq!(queue.dead_letter(&id).await.unwrap().attempts, 2);
    queue.discard(&id).await.unwrap();
    assert_eq!(queue.discard(&id).await, Err(QueueError::NotFound));
    assert_eq!(queue.dead_letter(&id).await, Err(QueueError::NotFound));
    settle(&queue, "h", "2", Verdict::Done).await;
    assert!(try_take(&queue, &handler("h")).await.is_none());
}

async fn undecodable_pushes<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let push = RawPush {
        hook: "a".parse().unwrap(),
        media_type: "text/plain".into(),
        body: b"?\0\xff".as_slice().into(),
    };
    let other = RawPush { hook: "b".parse().unwrap(), ..push.clone() };
    for push in [&push, &other, &push, &other] {
        queue.bury_raw(push.clone(), failure("not JSON")).await.unwrap();
    }
    let last = DeadLetterId::Raw(2);
    let letter = queue.dead_letter(&last).await.unwrap();
    assert_eq!((letter.letter, letter.attempts), (Letter::Raw(other.clone()), 0));
    assert_eq!(queue.revive(&last).await, Err(QueueError::Undeliverable));
    assert_eq!(queue.revive(&DeadLetterId::Raw(9)).await, Err(QueueError::NotFound));
    queue.discard(&last).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    // Whatever its media type, it is the same, also after a restart; one that was discarded is new.
    let push = RawPush { media_type: "x/y".into(), ..push };
    queue.bury_raw(push, failure("again")).await.unwrap();
    queue.bury_raw(other, failure("not JSON")).await.unwrap();
    let letters = queue.dead_letters(None, ALL).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.to_string()).collect();
    assert_eq!(ids, ["raw:1", "raw:3"], "a number is never used again");
    assert_eq!(queue.census().await.unwrap().raw_dead_letters, 2);
}

async fn listings<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let seqs = store(&queue, &["1", "2", "3"]).await;
    store(&queue, &["4", "5"]).await;
    assert_eq!(ids(&queue, Page { limit: 2, newest: false }).await, ["1", "2"]);
    assert_eq!(ids(&queue, Page { limit: 3, newest: true }).await, ["3", "4", "5"]);
    assert_eq!(queue.event(seqs[1]).await.unwrap().event.attributes().id, "2");
    assert_eq!(queue.event("99".parse().unwrap()).await, Err(QueueError::NotFound));
}

async fn the_census<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let clock = made.clock().clone();
    let verdicts = [
        Verdict::Done,
        Verdict::Bury(failure("x")),
        Verdict::RetryAfter(SECOND, failure("x")),
        Verdict::RetryAfter(2 * SECOND, failure("x")),
    ];
    let mut times = Vec::new();
    for id in ["1", "2", "3", "4", "5", "6"] {
        times.push(clock.now());
        store(&queue, &[id]).await;
        clock.advance(SECOND / 1000);
    }
    for verdict in verdicts {
        let taken = take(&queue, "h").await;
        queue.settle(taken.receipt, verdict).await.unwrap();
    }
    let _fresh = take(&queue, "h").await;
    let now = at(&queue, &handler("h")).await;
    let numbers = (now.pending, now.retrying, now.in_flight, now.dead_letters);
    assert_eq!((numbers, now.oldest), ((2, 2, 1, 1), Some(times[2])));
    clock.advance(SECOND);
    let retry = take(&queue, "h").await;
    let now = at(&queue, &handler("h")).await;
    let numbers = (now.pending, now.retrying, now.in_flight, now.dead_letters);
    assert_eq!((numbers, now.oldest), ((3, 1, 2, 1), Some(times[2])));
    queue.settle(retry.receipt, Verdict::Done).await.unwrap();
    let now = at(&queue, &handler("h")).await;
    assert_eq!((now.pending, now.retrying, now.oldest), (2, 1, Some(times[3])));
}

async fn bookmarks<S: Store>(mut made: S) {
    let queue = made.open(&handlers(&["h"])).await;
    let name: BookmarkName = "feed|a".parse().unwrap();
    let at = |place: &'static str| Some(Bookmark { name: name.clone(), place: place.into() });
    let one = || vec![arrival("1", &["a"], false, 10)];
    assert_eq!(queue.bookmark(&name).await.unwrap(), None);
    queue.append_with(one(), at("1")).await.unwrap();
    // It moves with duplicates and with nothing, too.
    assert_eq!(queue.append_with(one(), at("2")).await.unwrap(), [Appended::Duplicate]);
    queue.append_with(Vec::new(), at("3")).await.unwrap();
    let place = vec![0; Bookmark::MAX_PLACE + 1].into();
    let long = Bookmark { name: name.clone(), place };
    let refused = queue.append_with(vec![arrival("2", &["a"], false, 10)], Some(long)).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    queue.close().await.unwrap();
    assert_eq!(queue.bookmark(&name).await, Err(QueueError::Closed));
    drop(queue);
    let queue = made.open(&handlers(&["h"])).await;
    assert_eq!(queue.bookmark(&name).await.unwrap().unwrap(), "3");
    assert_eq!(queue.bookmark(&"feed|b".parse().unwrap()).await.unwrap(), None);
    assert_eq!(ids(&queue, ALL).await, ["1"]);
}

/// One test of a name for each rule of the contract.
macro_rules! conformance {
    ($store:ident, $make:expr; $($rule:ident)*) => {
        mod $store {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    super::$rule($make).await;
                }
            )*
        }
    };
    ($store:ident, $make:expr) => {
        conformance! { $store, $make;
            order_of_taking leases a_taker_that_waits_is_woken attempts_and_times dedup restart
            dead_letters undecodable_pushes listings the_census bookmarks
            replay_in_order replay_wakes replay_doubles_nothing replay_and_dead_letters
            replay_refusals pausing forgetting
        }
    };
}

conformance! { memory, Memory::new(clock()) }
conformance! { sled, Disk::new(clock(), true) }
