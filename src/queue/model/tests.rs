use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::{
    clock::Timestamp,
    event::{Arrival, Event, Origin},
    name::HookName,
    queue::{Failure, Letter, RAW, RawPush},
};

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> HandlerName {
    text.parse().unwrap()
}

fn hooks(names: &[&str]) -> Vec<HookName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn arrival(id: &str, from: &[&str], only_by_hook: Option<&str>) -> Arrival {
    let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/a","type":"t"}}"#);
    Arrival {
        event: Event::from_json(Bytes::from(json)).unwrap(),
        origin: Origin::Altinn,
        from: hooks(from),
        only_by_hook: only_by_hook.map(|name| name.parse().unwrap()),
    }
}

fn queue(handlers: &[&str]) -> (ModelQueue, Clock) {
    let clock = Clock::manual(Timestamp::from_millis(1_000_000));
    let handlers: Vec<_> = handlers.iter().map(|text| (name(text), StartAt::Now)).collect();
    (ModelQueue::new(&handlers, clock.clone()), clock)
}

/// What can be taken now, without waiting.
fn take(queue: &ModelQueue) -> Option<Delivery<ModelReceipt>> {
    queue.take(&name("h")).now_or_never().map(Result::unwrap)
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.to_owned(), answer: None }
}

async fn store(queue: &ModelQueue, ids: &[&str]) {
    let arrivals = ids.iter().map(|id| arrival(id, &["a"], None)).collect();
    let appended = queue.append(arrivals).await.unwrap();
    assert!(appended.iter().all(|one| matches!(one, Appended::Stored(_))), "{appended:?}");
}

#[tokio::test]
async fn deliveries_come_in_the_order_of_the_log_and_due_retries_before_them() {
    let (queue, clock) = queue(&["h"]);
    store(&queue, &["1", "2", "3"]).await;
    let first = take(&queue).unwrap();
    assert_eq!((first.stored.event.attributes().id.as_str(), first.attempt), ("1", 1));
    let since = first.since;
    queue.settle(first.receipt, Verdict::RetryAfter(SECOND, failure("x"))).await.unwrap();
    let second = take(&queue).unwrap();
    assert_eq!(second.stored.event.attributes().id, "2", "the retry is not due yet");
    clock.advance(SECOND);
    let again = take(&queue).unwrap();
    assert_eq!((again.stored.event.attributes().id.as_str(), again.attempt), ("1", 2));
    assert_eq!(again.since, since, "a retry's time began with its first attempt");
    assert_eq!(take(&queue).unwrap().stored.event.attributes().id, "3");
}

#[tokio::test]
async fn a_dropped_receipt_gives_its_delivery_back_with_the_same_attempt() {
    let (queue, clock) = queue(&["h"]);
    store(&queue, &["1"]).await;
    let first = take(&queue).unwrap();
    assert!(take(&queue).is_none(), "it is leased");
    drop(first);
    let first = take(&queue).unwrap();
    assert_eq!(first.attempt, 1);
    queue.settle(first.receipt, Verdict::RetryAfter(SECOND, failure("x"))).await.unwrap();
    clock.advance(SECOND);
    drop(take(&queue).unwrap());
    let second = take(&queue).unwrap();
    assert_eq!(second.attempt, 2);
    queue.settle(second.receipt, Verdict::Done).await.unwrap();
    assert!(take(&queue).is_none(), "settled once and for all");
}

#[tokio::test(start_paused = true)]
async fn take_waits_for_an_event_and_for_a_retry() {
    let (queue, clock) = queue(&["h"]);
    let handler = name("h");
    let (taken, ()) = tokio::join!(queue.take(&handler), store(&queue, &["1"]));
    let verdict = Verdict::RetryAfter(SECOND, failure("x"));
    queue.settle(taken.unwrap().receipt, verdict).await.unwrap();
    let move_clock = async {
        sleep(SECOND / 2).await;
        clock.advance(SECOND);
    };
    let began = tokio::time::Instant::now();
    let (taken, ()) = tokio::join!(queue.take(&handler), move_clock);
    assert_eq!(taken.unwrap().attempt, 2);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test]
async fn a_duplicate_is_not_stored_unless_it_can_be_told_only_by_its_hook() {
    let altinn = |id, from: &[&str]| arrival(id, from, None);
    let by = |id, hook| arrival(id, &[hook], Some(hook));
    let (queue, _) = queue(&["h"]);
    let mut other_source = altinn("1", &["a"]);
    other_source.origin = Origin::Source("a".parse().unwrap());
    for (what, arrival, stored) in [
        ("new", altinn("1", &["a"]), true),
        ("again", altinn("1", &["a"]), false),
        ("by another hook", altinn("1", &["b"]), false),
        ("of another origin", other_source, true),
        ("another id", altinn("2", &["a"]), true),
        ("of a hook that it belonged to", by("1", "a"), false),
        ("only by a new hook", by("1", "c"), true),
        ("only by that hook again", by("1", "c"), false),
        ("only by one more", by("1", "d"), true),
        ("new, only by its hook", by("3", "c"), true),
    ] {
        let appended = queue.append(vec![arrival]).await.unwrap();
        assert_eq!(matches!(appended[0], Appended::Stored(_)), stored, "{what}");
    }
    let events = queue.events(Page { limit: 2, newest: true }).await.unwrap();
    assert_eq!((&events[0].from, &events[0].already), (&hooks(&["d"]), &hooks(&["a", "c"])));
    assert_eq!((&events[1].from, &events[1].already), (&hooks(&["c"]), &hooks(&[])));
}

#[tokio::test]
async fn twins_in_one_append_are_stored_once() {
    let (queue, _) = queue(&["h"]);
    let twins = vec![arrival("1", &["a"], None), arrival("1", &["b"], None)];
    let appended = queue.append(twins).await.unwrap();
    assert!(matches!(appended[..], [Appended::Stored(_), Appended::Duplicate]));
}

#[tokio::test]
async fn a_revived_dead_letter_counts_on_and_its_time_begins_anew() {
    let (queue, clock) = queue(&["h"]);
    store(&queue, &["1"]).await;
    let first = take(&queue).unwrap();
    queue.settle(first.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    let all = Page { limit: 10, newest: false };
    let letters = queue.dead_letters(None, all).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 1));
    assert_eq!(letters[0].failure.reason, "no");
    clock.advance(SECOND);
    queue.revive(&letters[0].id).await.unwrap();
    assert_eq!(queue.revive(&letters[0].id).await, Err(QueueError::NotFound));
    let second = take(&queue).unwrap();
    assert_eq!((second.attempt, second.since), (2, clock.now()));
    queue.settle(second.receipt, Verdict::Bury(failure("no"))).await.unwrap();
    queue.discard(&letters[0].id).await.unwrap();
    assert_eq!(queue.dead_letter(&letters[0].id).await, Err(QueueError::NotFound));
    assert!(take(&queue).is_none());
}

#[tokio::test]
async fn an_undecodable_push_is_kept_and_cannot_be_revived() {
    let (queue, _) = queue(&["h"]);
    let hook: HookName = "a".parse().unwrap();
    let push = RawPush { hook, media_type: "text/plain".into(), body: Bytes::from_static(b"?") };
    queue.bury_raw(push.clone(), failure("not JSON")).await.unwrap();
    let id: DeadLetterId = format!("{RAW}:1").parse().unwrap();
    assert_eq!(queue.dead_letter(&id).await.unwrap().letter, Letter::Raw(push));
    assert_eq!(queue.revive(&id).await, Err(QueueError::Undeliverable));
    queue.discard(&id).await.unwrap();
    assert_eq!(queue.discard(&id).await, Err(QueueError::NotFound));
}

#[tokio::test]
async fn a_reopened_queue_has_no_leases_and_places_for_new_handlers() {
    let (queue, _) = queue(&["h"]);
    store(&queue, &["1", "2"]).await;
    let leased = take(&queue).unwrap();
    queue.close().await.unwrap();
    assert_eq!(queue.settle(leased.receipt, Verdict::Done).await, Err(QueueError::Closed));
    let handlers =
        [(name("h"), StartAt::Now), (name("now"), StartAt::Now), (name("oldest"), StartAt::Oldest)];
    let queue = queue.reopened(&handlers);
    let census = queue.census().await.unwrap();
    let pending: Vec<_> = census.handlers.iter().map(|one| (one.pending, one.in_flight)).collect();
    assert_eq!(pending, [(2, 0), (0, 0), (2, 0)]);
    let queue = queue.reopened(&handlers[1..]);
    assert_eq!(queue.take(&name("h")).await.unwrap_err(), QueueError::NotFound);
    assert!(!queue.census().await.unwrap().handlers[0].configured);
}

#[tokio::test]
async fn the_census_adds_up() {
    let (queue, _) = queue(&["h"]);
    store(&queue, &["1", "2", "3", "4"]).await;
    let verdicts = [
        Verdict::Done,
        Verdict::Bury(failure("no")),
        Verdict::RetryAfter(SECOND, failure("later")),
    ];
    for verdict in verdicts {
        let taken = take(&queue).unwrap();
        queue.settle(taken.receipt, verdict).await.unwrap();
    }
    let _in_flight = take(&queue).unwrap();
    let census = queue.census().await.unwrap();
    let at = &census.handlers[0];
    assert_eq!((census.events, census.dedup_ids), (4, 4));
    assert_eq!((at.pending, at.in_flight, at.retrying, at.dead_letters), (1, 1, 1, 1));
}

#[tokio::test]
async fn a_full_queue_refuses_events_and_still_delivers_and_a_broken_one_does_neither() {
    let (queue, _) = queue(&["h"]);
    store(&queue, &["1", "2"]).await;
    queue.refuse(Some(QueueError::Full("max_bytes")));
    assert_eq!(queue.health(), Health::Full("max_bytes"));
    let more = || vec![arrival("3", &["a"], None)];
    assert_eq!(queue.append(more()).await, Err(QueueError::Full("max_bytes")));
    let taken = take(&queue).unwrap();
    queue.settle(taken.receipt, Verdict::Done).await.unwrap();
    let taken = take(&queue).unwrap();
    let broken = QueueError::Unavailable("disk".into());
    queue.refuse(Some(broken.clone()));
    assert_eq!(queue.settle(taken.receipt, Verdict::Done).await, Err(broken.clone()));
    assert_eq!(queue.take(&name("h")).await.unwrap_err(), broken);
    assert_eq!(queue.health(), Health::Failing(broken.to_string()));
    queue.damage(Some("event 1".into()));
    assert_eq!(queue.health(), Health::Failing(broken.to_string()), "nothing works is worse");
    queue.refuse(Some(QueueError::Full("max_bytes")));
    assert_eq!(queue.health(), Health::Damaged("event 1".into()), "only a person can mend it");
    queue.refuse(None);
    assert_eq!(queue.health(), Health::Damaged("event 1".into()));
    assert!(queue.append(more()).await.is_ok(), "it takes events all the same");
    queue.damage(None);
    assert_eq!(queue.health(), Health::Writable);
    assert_eq!(take(&queue).unwrap().attempt, 1, "not settled, so it comes again");
}
