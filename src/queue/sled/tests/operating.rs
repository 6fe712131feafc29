//! Replay, pause and forget: what only this store can get wrong. The rules for all stores are in
//! `tests/model`.

use std::collections::BTreeSet;

use super::*;
use crate::{
    queue::{
        DeadLetterId, ReplayFrom,
        sled::{
            ack_window::{AckWindow, WIDTH},
            codec::{Value, values::Cursor},
            state::{State, handler::Job, retries::Retry},
        },
    },
    store::{View, fault},
};

/// A handler whose cursor is set back from far beyond the window's reach.
#[test]
fn what_is_out_of_reach_of_a_cursor_that_is_set_back_is_not_given_out_again() {
    let (name, now) = (handler("a"), Duration::from_millis(1));
    let (far, end) = (WIDTH + 1_000, WIDTH + 1_010);
    let mut state = State::new();
    state.next = end;
    let of = state.handlers.entry(name.clone()).or_default();
    (of.configured, of.window) = (true, AckWindow::starting_at(far));
    let event = |state: &mut State| match state.job(&name, now).unwrap() {
        Job::Event(seq) => Some(seq),
        Job::Retry(..) | Job::Wait(_) => None,
    };
    let in_flight: Vec<_> = (0..6).filter_map(|_| event(&mut state)).collect();
    assert_eq!(in_flight, (far..far + 6).collect::<Vec<_>>());
    // One becomes a retry, one is done; four stay in flight.
    for seq in [far + 1, far + 2] {
        state.settled(&name, seq);
    }
    let ready = Duration::from_millis(100);
    state.retries(&name, far + 1, Retry { due: 100, ready, bytes: 10 });
    let of = state.handlers.get_mut(&name).unwrap();
    assert_eq!(of.pending(1, end), 8);
    assert_eq!(of.replay(1), far, "all below, and the one that is done");
    assert_eq!(of.pending(1, end), far + 8);

    let mut came = Vec::new();
    while let Some(seq) = event(&mut state) {
        came.push(seq);
        state.settled(&name, seq);
        match seq {
            // Given back, it waits for its turn; done and buried, it does not come; nor does the
            // retry that succeeds meanwhile.
            10 => state.handlers.get_mut(&name).unwrap().release(far + 3),
            20 => drop(state.settled(&name, far + 4)),
            30 => {
                assert_eq!(state.job(&name, ready), Ok(Job::Retry(far + 1, 100)));
                state.settled(&name, far + 1);
            }
            _ => {}
        }
    }
    let not_again = BTreeSet::from([far, far + 1, far + 4, far + 5]);
    let expected: Vec<_> = (1..end).filter(|seq| !not_again.contains(seq)).collect();
    assert_eq!(came, expected, "in order, each once");
    // What is still in flight holds the cursor, and comes if it is given back.
    let of = state.handlers.get_mut(&name).unwrap();
    assert_eq!((of.window.low(), of.pending(1, end)), (far, 2));
    of.release(far);
    state.settled(&name, far + 5);
    assert_eq!(event(&mut state), Some(far));
    state.settled(&name, far);
    assert_eq!(event(&mut state), None);
    assert_eq!(state.handlers[&name].pending(1, end), 0);
}

#[tokio::test]
async fn a_retry_out_of_reach_does_not_come_as_an_event_after_a_restart() {
    let mut bench = Bench::new(&[("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    let many = (0..WIDTH + 10).map(|number| arrival(&number.to_string())).collect();
    queue.append(many).await.unwrap();
    bench.options.handlers.push((handler("a"), StartAt::Now));
    let queue = bench.reopen(queue).await;
    append(&queue, &["last"]).await;
    settle(&queue, "a", "last", Verdict::RetryAfter(DAY, failure("500"))).await;
    assert_eq!(queue.replay(&handler("a"), ReplayFrom::Oldest).await, Ok(WIDTH + 10));
    let numbers = async |queue: &SledQueue| {
        let at = queue.census().await.unwrap().handlers[0].clone();
        (at.pending, at.retrying)
    };
    assert_eq!(numbers(&queue).await, (WIDTH + 10, 1));
    queue.close().await.unwrap();
    let report = bench.verified().await;
    assert!(report.whole, "{report:?}");
    let queue = bench.open().await;
    assert_eq!(numbers(&queue).await, (WIDTH + 10, 1));
    assert_eq!(id(&take(&queue, "a").await), "0");
}

#[tokio::test]
async fn a_cursor_that_is_set_back_holds_the_log_again() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    append(&queue, &["2"]).await;
    for expected in ["1", "2"] {
        settle(&queue, "a", expected, Verdict::Done).await;
    }
    assert_eq!(queue.replay(&handler("a"), ReplayFrom::Seq(Seq(2))).await, Ok(1));
    bench.clock.advance(2 * DAY);
    let queue = bench.reopen(queue).await;
    assert_eq!(ids_in_log(&queue).await, ["2"], "only what it has settled goes");
    settle(&queue, "a", "2", Verdict::Done).await;
    let queue = bench.reopen(queue).await;
    assert_eq!(ids_in_log(&queue).await, [""; 0]);
    // From before the log, it is from its beginning.
    append(&queue, &["3"]).await;
    settle(&queue, "a", "3", Verdict::Done).await;
    assert_eq!(queue.replay(&handler("a"), ReplayFrom::Seq(Seq(1))).await, Ok(1));
    settle(&queue, "a", "3", Verdict::Done).await;
    assert_eq!(queue.replay(&handler("a"), ReplayFrom::Oldest).await, Ok(1));
}

#[tokio::test]
async fn a_dead_letter_in_parts_is_replaced_with_all_of_them() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    queue.append(vec![large("1", 200_000)]).await.unwrap();
    let name = handler("a");
    settle(&queue, "a", "1", Verdict::Bury(failure("first"))).await;
    let bytes = queue.census().await.unwrap().live_bytes;
    queue.replay(&name, ReplayFrom::Oldest).await.unwrap();
    settle(&queue, "a", "1", Verdict::Bury(failure("again"))).await;
    assert_eq!(queue.census().await.unwrap().live_bytes, bytes);
    let queue = bench.reopen(queue).await;
    let census = queue.census().await.unwrap();
    assert_eq!((census.live_bytes, census.handlers[0].dead_letters), (bytes, 1));
    queue.replay(&name, ReplayFrom::Oldest).await.unwrap();
    queue.close().await.unwrap();
    let report = bench.verified().await;
    assert!(report.whole, "a dead letter whose event comes again is no fault: {report:?}");
    let queue = bench.open().await;
    settle(&queue, "a", "1", Verdict::Done).await;
    queue.discard(&DeadLetterId::Delivery(name, Seq(1))).await.unwrap();
    bench.clock.advance(2 * DAY);
    let queue = bench.reopen(queue).await;
    assert_eq!(queue.census().await.unwrap().live_bytes, 0);
    queue.close().await.unwrap();
    assert!(bench.verified().await.whole);
}

#[tokio::test]
async fn a_replay_that_cannot_be_written_loses_nothing_and_doubles_nothing() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    append(&queue, &["1", "2", "3", "4"]).await;
    settle(&queue, "a", "1", Verdict::Done).await;
    settle(&queue, "a", "2", Verdict::RetryAfter(DAY, failure("500"))).await;
    let in_flight = take(&queue, "a").await;
    fault::breaks(bench.directory.path());
    let refused = queue.replay(&handler("a"), ReplayFrom::Oldest).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    failing(&queue).await;
    fault::mends(bench.directory.path());
    healed(&queue).await;
    let mut came = Vec::new();
    while queue.census().await.unwrap().handlers[0].pending > 1 {
        let delivery = take(&queue, "a").await;
        came.push(id(&delivery).to_owned());
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    // It is not known whether it was written: 1 may come again, and nothing else twice.
    assert!(came == ["4"] || came == ["1", "4"], "{came:?}");
    drop(in_flight);
    assert_eq!(id(&take(&queue, "a").await), "3");
    assert_eq!(queue.census().await.unwrap().handlers[0].retrying, 1);
}

#[tokio::test]
async fn a_handler_is_paused_until_its_cursor_says_otherwise() {
    let bench = Bench::one();
    let queue = bench.open().await;
    queue.pause(&handler("a"), true).await.unwrap();
    append(&queue, &["1"]).await;
    let queue = bench.reopen(queue).await;
    assert!(queue.census().await.unwrap().handlers[0].paused);
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            let key = keys::cursor(&handler("a"));
            let paused = Cursor::decode(&db.get(&key).unwrap()).unwrap();
            assert!(paused.paused);
            db.insert(key, Cursor { paused: false, ..paused }.encode());
        })
        .await;
    let queue = bench.open().await;
    assert_eq!(id(&take(&queue, "a").await), "1");
}

#[tokio::test]
async fn a_forgotten_handler_leaves_nothing_behind() {
    let mut bench = Bench::new(&[("a", StartAt::Oldest), ("b", StartAt::Oldest)]);
    let queue = bench.open().await;
    queue.append(vec![arrival("1"), large("2", 200_000), large("3", 200_000)]).await.unwrap();
    for (name, verdicts) in [
        ("a", [Verdict::Done, Verdict::Done, Verdict::Done]),
        (
            "b",
            [Verdict::Done, Verdict::Bury(failure("no")), Verdict::RetryAfter(DAY, failure("500"))],
        ),
    ] {
        for verdict in verdicts {
            let delivery = take(&queue, name).await;
            queue.settle(delivery.receipt, verdict).await.unwrap();
        }
    }
    bench.options.handlers.truncate(1);
    let queue = bench.reopen(queue).await;
    assert!(queue.census().await.unwrap().live_bytes > 400_000);
    queue.forget(&handler("b")).await.unwrap();
    let census = queue.census().await.unwrap();
    assert_eq!((census.live_bytes, census.handlers.len()), (0, 1));
    queue.close().await.unwrap();
    bench
        .tamper(|db| {
            for prefix in [keys::RETRIES, keys::DEAD, PARTS] {
                assert_eq!(db.range(keys::all(prefix)).len(), 0);
            }
            assert_eq!(db.range(keys::all(keys::CURSORS)).len(), 1);
        })
        .await;
    assert!(bench.verified().await.whole);
}

/// A letter is buried anew at the moment at which it is retried: in whichever order, one remains.
#[tokio::test]
async fn an_operators_call_is_not_mixed_with_what_is_settled_at_the_same_time() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    let (name, letter) = (handler("a"), DeadLetterId::Delivery(handler("a"), Seq(1)));
    append(&queue, &["1"]).await;
    settle(&queue, "a", "1", Verdict::Bury(failure("no"))).await;
    for round in 0..20 {
        queue.replay(&name, ReplayFrom::Seq(Seq(1))).await.unwrap();
        let delivery = take(&queue, "a").await;
        assert_eq!(id(&delivery), "1");
        let another = format!("other {round}");
        let more = vec![arrival(&another)];
        // While the first is written, the others wait for the same commit.
        let (stored, buried, revived) = tokio::join!(
            queue.append(more),
            queue.settle(delivery.receipt, Verdict::Bury(failure("again"))),
            queue.revive(&letter),
        );
        assert_eq!((stored.map(|_| ()), buried, revived), (Ok(()), Ok(()), Ok(())));
        let census = queue.census().await.unwrap().handlers[0].clone();
        assert_eq!(census.retrying + census.dead_letters, 1, "{round}: {census:?}");
        while queue.census().await.unwrap().handlers[0].oldest.is_some() {
            let delivery = take(&queue, "a").await;
            let of_the_letter = id(&delivery) == "1";
            let verdict = if of_the_letter { Verdict::Bury(failure("no")) } else { Verdict::Done };
            queue.settle(delivery.receipt, verdict).await.unwrap();
        }
    }
}

/// Else a crash would find it waiting beside its event, which is to come again.
#[tokio::test]
async fn a_retry_that_just_succeeded_is_deleted_with_a_replay_of_its_event() {
    let mut bench = Bench::one();
    bench.options.retain = DAY;
    let queue = bench.open().await;
    append(&queue, &["1"]).await;
    for round in 0..10 {
        settle(&queue, "a", "1", Verdict::RetryAfter(Duration::ZERO, failure("500"))).await;
        settle(&queue, "a", "1", Verdict::Done).await;
        queue.replay(&handler("a"), ReplayFrom::Oldest).await.unwrap();
        let waiting = |view: &View| Ok(view.range(keys::all(keys::RETRIES)).count());
        assert_eq!(queue.shared.read(waiting).await, Ok(0), "{round}");
    }
}
