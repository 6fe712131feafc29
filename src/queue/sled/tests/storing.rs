//! Appending: what is stored, what is known already, and that it is durable.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::*;
use crate::{
    queue::{Bookmark, BookmarkName},
    store::fault,
};

#[tokio::test]
async fn an_appended_event_is_there_after_reopening() {
    let bench = Bench::one();
    let queue = bench.open().await;
    assert_eq!(append(&queue, &["1", "2"]).await, [stored(1), stored(2)]);
    let before = queue.events(OLDEST).await.unwrap();
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.events(OLDEST).await.unwrap(), before);
    assert_eq!(queue.event(Seq(2)).await.unwrap(), before[1]);
    assert_eq!(queue.event(Seq(3)).await, Err(QueueError::NotFound));
    assert_eq!(append(&queue, &["3"]).await, [stored(3)]);
    let newest = queue.events(Page { limit: 2, newest: true }).await.unwrap();
    assert_eq!(newest.iter().map(|stored| stored.seq.0).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn an_append_is_answered_after_its_sync() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let before = queue.shared.metrics.commits.get();
    fault::hangs(bench.directory.path());
    let mut appending = Box::pin(queue.append(vec![arrival("1")]));
    assert!(timeout(Duration::from_millis(500), &mut appending).await.is_err());
    assert_eq!(queue.census().await.unwrap().events, 0);
    fault::mends(bench.directory.path());
    assert_eq!(appending.await.unwrap(), [stored(1)]);
    assert!(queue.shared.metrics.commits.get() > before);
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_but_not_stored() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let results = append(&queue, &["1", "1", "2"]).await;
    assert_eq!(results, [stored(1), Appended::Duplicate, stored(2)]);
    let queue = bench.reopen(queue).await;
    assert_eq!(append(&queue, &["2", "1"]).await, [Appended::Duplicate; 2]);
    assert_eq!(queue.census().await.unwrap().events, 2);
}

#[tokio::test]
async fn the_same_event_fifty_times_at_once_is_stored_once() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let results = join_all((0..50).map(|_| append(&queue, &["1"]))).await.concat();
    assert_eq!(results.iter().filter(|result| **result == stored(1)).count(), 1);
    assert_eq!(results.iter().filter(|result| **result == Appended::Duplicate).count(), 49);
    assert_eq!(ids_in_log(&queue).await, ["1"]);
}

#[tokio::test]
async fn a_bookmark_is_kept_with_the_events_that_it_stands_for() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let name: BookmarkName = "feed|a".parse().unwrap();
    let at = |place: &'static str| Bookmark { name: name.clone(), place: place.into() };
    assert_eq!(queue.bookmark(&name).await.unwrap(), None);
    queue.append_with(vec![arrival("1")], Some(at("one"))).await.unwrap();
    queue.append_with(vec![arrival("1")], Some(at("two"))).await.unwrap();
    queue.append_with(Vec::new(), Some(at("three"))).await.unwrap();
    // With events that are not kept, the bookmark is not kept either.
    let refused = queue.append_with(vec![large("2", 9 << 20)], Some(at("four"))).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let long = Bookmark { name: name.clone(), place: vec![0; Bookmark::MAX_PLACE + 1].into() };
    assert!(queue.append_with(vec![arrival("3")], Some(long)).await.is_err());
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.bookmark(&name).await.unwrap().unwrap(), "three");
    assert_eq!(queue.bookmark(&"feed|b".parse().unwrap()).await.unwrap(), None);
    assert_eq!(ids_in_log(&queue).await, ["1"]);
}

#[tokio::test]
async fn another_origin_has_its_own_ids() {
    let bench = Bench::one();
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let other = Arrival { origin: Origin::Source("altinn".parse().unwrap()), ..arrival("1") };
    assert_eq!(queue.append(vec![other]).await.unwrap(), [stored(2)]);
}

#[tokio::test]
async fn an_id_is_known_after_its_record_is_deleted_and_until_its_window_ends() {
    let mut bench = Bench::one();
    bench.options.dedup_window = 10 * DAY;
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    let delivery = take(&queue, "a").await;
    queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.events, census.live_bytes, census.dedup_ids), (0, 0, 1));
    bench.clock.advance(9 * DAY);
    assert_eq!(append(&queue, &["1"]).await, [Appended::Duplicate]);
    bench.clock.advance(2 * DAY);
    assert_eq!(append(&queue, &["1"]).await, [stored(2)]);
    assert_eq!(queue.census().await.unwrap().dedup_ids, 1);
}

#[tokio::test]
async fn above_dedup_max_the_oldest_ids_are_forgotten() {
    let mut bench = Bench::one();
    bench.options.dedup_max = 3;
    let queue = bench.open().await;
    for id in ["1", "2", "3", "4", "5"] {
        append(&queue, &[id]).await;
    }
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.census().await.unwrap().dedup_ids, 3);
    let results = append(&queue, &["3", "5", "4"]).await;
    assert_eq!(results, [Appended::Duplicate; 3]);
    assert_eq!(append(&queue, &["1"]).await, [stored(6)]);
}

#[tokio::test]
async fn an_event_that_only_its_hook_can_place_is_stored_once_for_each_hook() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let by = |hook: &str| Arrival {
        from: vec![hook.parse().unwrap(), "other".parse().unwrap()],
        only_by_hook: Some(hook.parse().unwrap()),
        ..arrival("1")
    };
    assert_eq!(append(&queue, &["1"]).await, [stored(1)]);
    assert_eq!(
        queue.append(vec![by("x"), by("x")]).await.unwrap(),
        [stored(2), Appended::Duplicate]
    );
    let queue = bench.reopen(queue).await;
    assert_eq!(
        queue.append(vec![by("x"), by("y")]).await.unwrap(),
        [Appended::Duplicate, stored(3)]
    );
    assert_eq!(append(&queue, &["1"]).await, [Appended::Duplicate]);
    let second = queue.event(Seq(2)).await.unwrap();
    assert_eq!(second.from, ["x".parse().unwrap()]);
    assert_eq!(second.already, ["other".parse().unwrap()]);
    let fresh = Arrival { event: event("9", 1), ..by("x") };
    queue.append(vec![fresh]).await.unwrap();
    let fresh = queue.event(Seq(4)).await.unwrap();
    assert_eq!((fresh.from.len(), fresh.already.len()), (2, 0));
}

#[tokio::test]
async fn a_batch_with_an_event_that_is_too_large_is_not_stored_at_all() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let batch = vec![arrival("1"), large("2", 9 * 1024 * 1024), arrival("3")];
    assert!(matches!(queue.append(batch).await, Err(QueueError::Full(_))));
    assert_eq!(queue.census().await.unwrap().events, 0);
    assert_eq!(append(&queue, &["1"]).await, [stored(1)]);
}

#[tokio::test]
async fn a_batch_of_several_records_is_stored_whole() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let ids: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
    let batch = ids.iter().map(|id| large(id, 30_000)).collect();
    assert_eq!(queue.append(batch).await.unwrap().len(), 40);
    let queue = bench.reopen(queue).await;
    assert_eq!(ids_in_log(&queue).await, ids);
    let delivery = take(&queue, "a").await;
    assert_eq!((id(&delivery), delivery.stored.seq), ("1", Seq(1)));
}

#[tokio::test]
async fn many_senders_at_once_are_all_stored_and_reloaded() {
    let bench = Bench::one();
    let queue = bench.open().await;
    let senders = (0..64).map(|sender| {
        let queue = queue.clone();
        async move {
            for number in 0..20 {
                let id = format!("{sender}-{number}");
                queue.append(vec![large(&id, 2_000)]).await.unwrap();
            }
        }
    });
    join_all(senders).await;
    let queue = bench.reopen(queue).await;
    let events = queue.events(Page { limit: 5000, newest: false }).await.unwrap();
    let ids: HashSet<_> = events.iter().map(|e| e.event.attributes().id.clone()).collect();
    assert_eq!(ids.len(), 64 * 20);
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(queue.census().await.unwrap().dedup_ids, 64 * 20);
}
