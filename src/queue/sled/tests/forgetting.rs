//! Handlers with more to forget than one commit takes, and crashes in between.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{starting::copy, *};
use crate::queue::sled::write::{
    engine::Engine,
    upkeep::{Forgetting, upkeep},
};

/// Deliveries of the handler that is forgotten: more than two pieces.
const MANY: u64 = 2100;

/// A closed store with a handler `b` that has left the configuration: it has 1000 dead letters, and
/// 1100 deliveries that wait for a retry.
async fn left() -> Bench {
    let mut bench = Bench::new(&[("a", StartAt::Now), ("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    let events = (0..MANY).map(|number| arrival(&number.to_string())).collect();
    queue.append(events).await.unwrap();
    let mut settled = Vec::new();
    for number in 0..MANY {
        let verdict = if number < 1000 {
            Verdict::Bury(failure("no"))
        } else {
            Verdict::RetryAfter(DAY, failure("500"))
        };
        settled.push(queue.settle(take(&queue, "b").await.receipt, verdict));
    }
    assert!(join_all(settled).await.iter().all(Result::is_ok));
    bench.options.handlers.truncate(1);
    queue.close().await.unwrap();
    bench
}

/// Deliveries that handler `b` has left; `None` if it is not known any more.
async fn remaining(queue: &SledQueue) -> Option<u64> {
    let handlers = queue.census().await.unwrap().handlers;
    let b = handlers.iter().find(|of| of.name == handler("b"));
    b.map(|of| of.retrying + of.dead_letters)
}

/// The writer's own things, without its thread: each call of `upkeep` is one turn of it.
pub(super) fn engine(bench: &Bench) -> Engine {
    let (options, clock) = (bench.options.clone(), bench.clock.clone());
    let shared = Shared::new(options, clock, Metrics::default(), Disk::default());
    let mut engine = Engine::claim(Arc::new(shared)).unwrap();
    engine.open().unwrap();
    engine
}

async fn nothing_is_left(bench: &Bench) {
    assert!(bench.verified().await.whole);
    bench
        .tamper(|db| {
            for prefix in [keys::RETRIES, keys::DEAD] {
                assert_eq!(db.range(keys::all(prefix)).len(), 0);
            }
            assert_eq!(db.range(keys::all(keys::CURSORS)).len(), 1);
        })
        .await;
}

#[tokio::test]
async fn forgetting_takes_as_many_commits_as_it_needs_and_others_come_between() {
    let bench = left().await;
    let queue = bench.open().await;
    assert_eq!(remaining(&queue).await, Some(MANY));
    let commits = queue.shared.metrics.commits.get();
    let name = handler("b");
    let (forgotten, stored) = tokio::join!(queue.forget(&name), queue.append(vec![arrival("x")]));
    forgotten.unwrap();
    stored.unwrap();
    assert!(queue.shared.metrics.commits.get() >= commits + 4);
    assert_eq!(remaining(&queue).await, None);
    assert_eq!(queue.forget(&name).await, Err(QueueError::NotFound));
    queue.close().await.unwrap();
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn a_crash_between_two_pieces_leaves_a_handler_to_be_forgotten() {
    let bench = left().await;
    let mut crashed = Bench::new(&[("a", StartAt::Now)]);
    crashed.clock = bench.clock.clone();
    let (from, to) = (bench.options.directory.clone(), crashed.options.directory.clone());
    let mut engine = engine(&bench);
    let turn = move || {
        upkeep(&mut engine, &mut Forgetting::from([(handler("b"), Vec::new())])).unwrap();
        copy(&from, &to);
        engine.let_go();
    };
    spawn_blocking(turn).await.unwrap();
    let queue = crashed.open().await;
    assert_eq!(remaining(&queue).await, Some(MANY - 1024));
    queue.close().await.unwrap();
    assert!(crashed.verified().await.whole);
    let queue = crashed.open().await;
    queue.forget(&handler("b")).await.unwrap();
    assert_eq!(remaining(&queue).await, None);
    queue.close().await.unwrap();
    nothing_is_left(&crashed).await;
}

#[tokio::test]
async fn a_handler_that_left_long_ago_goes_piece_by_piece_while_the_clock_is_vouched_for() {
    let bench = left().await;
    bench.clock.advance(40 * DAY);
    let mut first = engine(&bench);
    let clock = bench.clock.clone();
    let turns = move || {
        let left = |engine: &Engine| {
            let state = engine.shared.state();
            let b = state.handlers.get(&handler("b"));
            let dead = state.dead.of(&handler("b"));
            b.map(|of| dead + u64::try_from(of.retries.waiting()).unwrap())
        };
        for _ in 0..5 {
            upkeep(&mut first, &mut Forgetting::new()).unwrap();
            assert_eq!(left(&first), Some(MANY), "nobody knows how long it was stopped");
        }
        clock.advance(DAY);
        upkeep(&mut first, &mut Forgetting::new()).unwrap();
        assert_eq!(left(&first), Some(MANY - 1024));
        // As a crash leaves it: nothing more is written.
        first.let_go();
    };
    spawn_blocking(turns).await.unwrap();
    let queue = bench.open().await;
    assert_eq!(remaining(&queue).await, Some(MANY - 1024));
    bench.clock.advance(DAY);
    let gone = async {
        while remaining(&queue).await.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    queue.close().await.unwrap();
    nothing_is_left(&bench).await;
}
