//! A wall clock that is set: waits are steady, and nothing goes for its age.

use futures_util::FutureExt;

use super::*;
use crate::{
    queue::{DeadLetterId, RawPush},
    store::fault,
};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Whether the retry comes after a minute, and not before.
async fn comes_after_a_minute(bench: &Bench, queue: &SledQueue) {
    bench.clock.advance(Duration::from_secs(59));
    assert!(queue.take(&handler("a")).now_or_never().is_none());
    bench.clock.advance(Duration::from_secs(1));
    let retried = take(queue, "a").await;
    assert_eq!((id(&retried), retried.attempt), ("1", 2));
}

async fn waiting_a_minute(queue: &SledQueue) {
    append(queue, &["1"]).await;
    settle(queue, "a", "1", Verdict::RetryAfter(MINUTE, failure("500"))).await;
}

#[tokio::test]
async fn a_retry_comes_in_its_time_though_the_clock_is_set() {
    for back in [true, false] {
        let bench = Bench::one();
        let queue = bench.open().await;
        waiting_a_minute(&queue).await;
        let now = bench.clock.now();
        bench.clock.set_wall(if back { now.before(HOUR) } else { now.after(HOUR) });
        comes_after_a_minute(&bench, &queue).await;
    }
}

#[tokio::test]
async fn after_a_restart_with_a_clock_set_back_a_retry_waits_at_most_its_own_delay() {
    let bench = Bench::one();
    let queue = bench.open().await;
    waiting_a_minute(&queue).await;
    queue.close().await.unwrap();
    bench.clock.set_wall(bench.clock.now().before(30 * DAY));
    let queue = bench.open().await;
    comes_after_a_minute(&bench, &queue).await;
}

/// Waits until the writer has done all that is due: twice, since one round may be under way.
async fn rounds(queue: &SledQueue, ids: [&str; 2]) {
    for id in ids {
        append(queue, &[id]).await;
        assert_eq!(done(queue, 1).await, [id]);
        until("it is written down", || queue.shared.state().unwritten() == 0).await;
    }
}

/// A store with something of everything that goes for its age: an event in the log, its id, a dead
/// letter, and a handler `b` that has left the configuration.
async fn aging() -> (Bench, SledQueue) {
    let mut bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    bench.options.dedup_window = 10 * DAY;
    bench.options.dead_letters.age = 10 * DAY;
    bench.options.retain = 10 * DAY;
    bench.open().await.close().await.unwrap();
    bench.options.handlers.truncate(1);
    let queue = bench.open().await;
    let push = RawPush { hook: "h".parse().unwrap(), media_type: "x/y".into(), body: "?".into() };
    queue.bury_raw(push, failure("no JSON")).await.unwrap();
    append(&queue, &["1"]).await;
    assert_eq!(done(&queue, 1).await, ["1"]);
    (bench, queue)
}

async fn all_is_there(queue: &SledQueue) {
    assert_eq!(append(queue, &["1"]).await, [Appended::Duplicate]);
    assert!(queue.dead_letter(&DeadLetterId::Raw(1)).await.is_ok());
    assert_eq!(queue.census().await.unwrap().handlers.len(), 2);
    assert_eq!(queue.event(Seq(1)).await.unwrap().event, event("1", 10));
}

async fn all_goes(queue: &SledQueue) {
    let gone = async {
        loop {
            let census = queue.census().await.unwrap();
            let handlers = census.handlers.len();
            if (census.raw_dead_letters, handlers, census.events) == (0, 1, 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    assert!(matches!(append(queue, &["1"]).await[..], [Appended::Stored(_)]));
}

#[tokio::test]
async fn a_clock_ten_years_ahead_deletes_nothing_before_a_day_of_steady_time() {
    let (bench, queue) = aging().await;
    bench.clock.set_wall(bench.clock.now().after(3650 * DAY));
    rounds(&queue, ["2", "3"]).await;
    all_is_there(&queue).await;
    // A restart does not make a wrong clock a good one.
    let queue = bench.reopen(queue).await;
    rounds(&queue, ["4", "5"]).await;
    all_is_there(&queue).await;
    bench.clock.advance(23 * HOUR);
    rounds(&queue, ["6", "7"]).await;
    all_is_there(&queue).await;
    bench.clock.advance(11 * DAY);
    all_goes(&queue).await;
}

/// The store fails after two idle days: the time that it had noted last is that of this process, and
/// says nothing about the clock.
#[tokio::test]
async fn a_store_that_heals_has_not_seen_the_clock_jump() {
    let (bench, queue) = aging().await;
    rounds(&queue, ["2", "3"]).await;
    bench.clock.advance(2 * DAY);
    fault::breaks(bench.directory.path());
    drop(queue.append(vec![arrival("4")]).await);
    failing(&queue).await;
    fault::mends(bench.directory.path());
    healed(&queue).await;
    assert_eq!(bench.clock.jumps(), 0);
}
