mod bench;
mod watched;

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use tokio::time::sleep;

use self::bench::{Act, Bench, DAY, MINUTE, SECOND, Scripted, Written};
use super::*;
use crate::{
    config::{Match, Pattern},
    queue::Failure,
};

fn pairs(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(id, attempt)| ((*id).to_owned(), *attempt)).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_delivered_in_order_and_settled() {
    let bench = Bench::scripted(1, &[]);
    bench.store(&["1", "2"]).await;
    bench.pass(SECOND).await;
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("2", 1)]));
    let census = bench.census().await;
    assert_eq!((census.pending, census.retrying), (0, 0));
    assert_eq!((bench.counted("delivered"), bench.in_flight()), (2, 0));
    assert_eq!(bench.stopped().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_with_growing_delays_until_it_is_delivered() {
    let bench = Bench::scripted(1, &[("1", &[Act::Fail("answered 500"); 5])]);
    bench.store(&["1"]).await;
    bench.pass(MINUTE * 2).await;
    let tried = bench.handler.tried.lock().unwrap().clone();
    let attempts: Vec<u32> = tried.iter().map(|(_, attempt, _)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6]);
    for (step, pair) in tried.windows(2).enumerate() {
        let (waited, longest) =
            (pair[1].2 - pair[0].2, SECOND * 2u32.pow(step.try_into().unwrap()));
        let slack = Duration::from_millis(200);
        assert!(waited >= longest / 2 && waited <= longest + slack, "{step}: {waited:?}");
    }
    assert_eq!((bench.counted("retry"), bench.counted("delivered")), (5, 1));
    let keys = bench.handler.keys.lock().unwrap().clone();
    assert!(keys.iter().all(|key| *key == keys[0]), "the key is the same for all attempts");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_delivered_in_its_time_is_a_dead_letter() {
    let handler = Scripted { otherwise: Some(Act::Fail("answered 500")), ..Scripted::default() };
    let bench = Bench::new(1, &Match::default(), handler);
    bench.store(&["1"]).await;
    bench.pass(MINUTE * 12).await;
    let letters = bench.letters().await;
    let attempts = u32::try_from(bench.tried().len()).unwrap();
    assert!(attempts > 10);
    assert_eq!(letters[0].attempts, attempts);
    let reason = format!("given up after {attempts} attempts: answered 500");
    assert_eq!(letters[0].failure.reason, reason);
    assert_eq!(bench.counted("given_up"), 1);
    bench.pass(MINUTE * 5).await;
    assert_eq!(bench.tried().last().unwrap().1, attempts, "it is not tried any more");
    bench.queue.revive(&letters[0].id).await.unwrap();
    bench.pass(SECOND).await;
    assert_eq!(bench.tried().last(), Some(&("1".to_owned(), attempts + 1)));
    assert_eq!(bench.census().await.retrying, 1, "its time began anew");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_a_dead_letter_at_once() {
    let bench = Bench::scripted(1, &[("1", &[Act::Reject])]);
    bench.store(&["1", "2"]).await;
    bench.pass(SECOND).await;
    assert_eq!(bench.letters().await[0].failure.reason, "bad");
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("2", 1)]));
    assert_eq!(bench.counted("rejected"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_retry_of_that_delivery_only() {
    let bench = Bench::scripted(1, &[("1", &[Act::Panic])]);
    bench.store(&["1", "2"]).await;
    bench.pass(SECOND * 3).await;
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("2", 1), ("1", 2)]));
    assert_eq!((bench.counted("panic"), bench.counted("delivered")), (1, 2));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_dropped_at_its_time_out_and_tried_again() {
    let bench = Bench::scripted(1, &[("1", &[Act::Hang])]);
    bench.store(&["1"]).await;
    bench.pass(SECOND * 29).await;
    assert_eq!((bench.handler.now.load(Ordering::SeqCst), bench.in_flight()), (1, 1));
    bench.pass(SECOND * 3).await;
    assert_eq!(bench.handler.now.load(Ordering::SeqCst), 0);
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("1", 2)]));
    assert_eq!((bench.counted("timeout"), bench.counted("delivered")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_does_not_hold_up_the_others() {
    let bench = Bench::scripted(2, &[("1", &[Act::Hang])]);
    bench.store(&["1", "2", "3", "4"]).await;
    bench.pass(SECOND).await;
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("2", 1), ("3", 1), ("4", 1)]));
    assert_eq!(bench.counted("delivered"), 3);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_at_the_same_time_than_configured() {
    let handler = Scripted { otherwise: Some(Act::Take(SECOND)), ..Scripted::default() };
    let bench = Bench::new(3, &Match::default(), handler);
    let ids: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    bench.store(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bench.pass(SECOND * 10).await;
    assert_eq!(bench.handler.most.load(Ordering::SeqCst), 3, "all three are used");
    assert_eq!(bench.counted("delivered"), 10);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_match_is_done_without_an_attempt() {
    let matches = Match { ty: vec![Pattern::Exact("u".into())], ..Match::default() };
    let bench = Bench::new(1, &matches, Scripted::default());
    bench.store(&["1", "2"]).await;
    bench.pass(SECOND).await;
    assert!(bench.tried().is_empty());
    assert_eq!(bench.census().await.pending, 0);
    assert_eq!(bench.counted("delivered"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_what_is_in_flight_end_and_takes_no_more() {
    let handler = Scripted { otherwise: Some(Act::Take(SECOND * 10)), ..Scripted::default() };
    let bench = Bench::new(2, &Match::default(), handler);
    bench.store(&["1", "2", "3"]).await;
    bench.pass(SECOND).await;
    let (queue, metrics, began) = (bench.queue.clone(), bench.metrics.clone(), Instant::now());
    assert_eq!(bench.stopped().await, Ok(()));
    assert!(began.elapsed() >= SECOND * 8, "it waited for them");
    let census = queue.census().await.unwrap().handlers.remove(0);
    assert_eq!((census.pending, census.in_flight), (1, 0));
    let labels = OutcomeLabels { handler: "h".into(), outcome: "delivered" };
    assert_eq!(metrics.attempts.get_or_create(&labels).get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_is_dropped_gives_its_deliveries_back() {
    let mut bench = Bench::scripted(1, &[("1", &[Act::Hang])]);
    bench.store(&["1"]).await;
    bench.pass(SECOND).await;
    assert_eq!(bench.census().await.in_flight, 1);
    bench.tasks.shutdown().await;
    sleep(SECOND).await;
    let census = bench.census().await;
    assert_eq!((census.in_flight, census.pending), (0, 1));
    assert_eq!((bench.in_flight(), bench.handler.now.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_asked_again_until_it_heals() {
    let broken = || Some(QueueError::Unavailable("disk".into()));
    let bench = Bench::scripted(1, &[("1", &[Act::Take(SECOND)])]);
    bench.store(&["1", "2"]).await;
    bench.pass(SECOND / 2).await;
    bench.queue.refuse(broken());
    bench.pass(MINUTE).await;
    assert_eq!(bench.tried(), pairs(&[("1", 1)]), "delivered once, and not settled");
    bench.queue.refuse(None);
    bench.pass(SECOND * 11).await;
    assert_eq!(bench.tried(), pairs(&[("1", 1), ("1", 1), ("2", 1)]));
    assert_eq!(bench.census().await.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_is_an_error_unless_stopping() {
    let mut bench = Bench::scripted(1, &[]);
    bench.queue.close().await.unwrap();
    let ended = bench.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ended, Err(QueueError::Closed));
    let bench = Bench::scripted(1, &[]);
    bench.stop.cancel();
    bench.queue.close().await.unwrap();
    assert_eq!(bench.stopped().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_one_line_in_the_log_without_anything_personal() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let answer = Some("answer with 01017012345".to_owned());
    let failure = Failure { reason: "answered 500".into(), answer };
    let refuse = Act::Answer(Box::leak(Box::new(failure)));
    let bench = Bench::new(
        1,
        &Match::default(),
        Scripted { otherwise: Some(refuse), ..Scripted::default() },
    );
    bench.store_personal().await;
    bench.pass(SECOND / 4).await;
    assert_eq!(bench.stopped().await, Ok(()));
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    for field in [
        r#"event.id="1\nforged""#,
        r#"event.source="/a""#,
        r#"event.type="t""#,
        r#"handler="h""#,
        "attempt=1",
        "duration_ms=0",
        r#"outcome="retry""#,
        r#"reason="answered 500""#,
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
    for personal in ["01017012345", "body"] {
        assert!(!text.contains(personal), "{personal}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_take_verdicts_is_not_met_with_a_storm_of_attempts() {
    let handler = Scripted { otherwise: Some(Act::Fail("answered 500")), ..Scripted::default() };
    let (bench, queue) = Bench::watched(4, handler, Duration::ZERO);
    queue.watch.refuses.store(true, Ordering::SeqCst);
    bench.store(&["1", "2", "3", "4", "5", "6"]).await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        let before = bench.tried().len();
        bench.pass(SECOND * 15).await;
        attempts.push(bench.tried().len() - before);
    }
    // At most a full house after each pause, and the pauses grow to 10 seconds.
    assert!(attempts[0] <= 4 * 11 && attempts[0] > attempts[1], "{attempts:?}");
    assert!(attempts[1..].iter().all(|few| (1..=4 * 4).contains(few)), "{attempts:?}");
    queue.watch.refuses.store(false, Ordering::SeqCst);
    bench.pass(SECOND * 11).await;
    assert_eq!(bench.census().await.retrying, 6, "all are written down now");
    assert_eq!(bench.stopped().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_take_that_has_begun_goes_on_while_deliveries_complete() {
    let handler = Scripted { otherwise: Some(Act::Take(SECOND * 5)), ..Scripted::default() };
    let (bench, queue) = Bench::watched(8, handler, SECOND);
    let ids: Vec<String> = (0..30).map(|id| id.to_string()).collect();
    bench.store(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bench.pass(SECOND * 36).await;
    assert_eq!(bench.counted("delivered"), 30, "one begins each second");
    let (begun, dropped) = (queue.watch.begun(), queue.watch.dropped());
    assert_eq!((begun, dropped), (31, 0), "one for each, and one that waits for more");
    assert_eq!(bench.stopped().await, Ok(()));
    assert_eq!(queue.watch.dropped(), 1, "the one that waited");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_by_a_clock_that_has_jumped() {
    let handler = Scripted { otherwise: Some(Act::Fail("answered 500")), ..Scripted::default() };
    let bench = Bench::new(1, &Match::default(), handler);
    bench.store(&["1"]).await;
    bench.pass(MINUTE).await;
    bench.clock.set_wall(bench.clock.now().after(30 * DAY));
    bench.pass(MINUTE * 30).await;
    assert_eq!((bench.counted("given_up"), bench.census().await.retrying), (0, 1));
    assert!(bench.tried().len() > 20, "it is tried as ever");
    bench.pass_in_steps(DAY, MINUTE).await;
    assert_eq!(bench.counted("given_up"), 1, "the clock went well for a day");
    assert_eq!(bench.stopped().await, Ok(()));
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Deliver),
        Just(Act::Fail("no")),
        Just(Act::Reject),
        Just(Act::Panic),
        Just(Act::Hang),
        (1u32..60_000).prop_map(|ms| Act::Take(Duration::from_millis(1) * ms)),
    ]
}

/// Stores events, breaks and heals the store, and looks at what became of them in the end.
async fn soak(concurrency: usize, scripts: Vec<Vec<Act>>, outages: Vec<u32>) {
    let ids: Vec<String> = (0..scripts.len()).map(|id| id.to_string()).collect();
    let script: Vec<(&str, &[Act])> =
        ids.iter().zip(&scripts).map(|(id, acts)| (id.as_str(), acts.as_slice())).collect();
    let bench = Bench::scripted(concurrency, &script);
    bench.store(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for ms in outages {
        bench.pass(Duration::from_millis(1) * ms).await;
        bench.queue.refuse(Some(QueueError::Unavailable("disk".into())));
        bench.pass(Duration::from_millis(1) * ms).await;
        bench.queue.refuse(None);
    }
    bench.pass_in_steps(MINUTE * 20, SECOND).await;
    assert!(bench.handler.most.load(Ordering::SeqCst) <= concurrency);
    let tried = bench.tried();
    assert!(ids.iter().all(|id| tried.iter().any(|(one, _)| one == id)), "each was tried");
    let census = bench.census().await;
    assert_eq!((census.pending, census.retrying, bench.in_flight()), (0, 0, 0));
    // A reject whose settling failed is tried again, and can be delivered then.
    assert!(bench.counted("delivered") + census.dead_letters >= ids.len().try_into().unwrap());
    assert!(census.dead_letters <= bench.counted("rejected") + bench.counted("given_up"));
    assert_eq!(bench.stopped().await, Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_handlers_and_the_store_do_each_event_is_delivered_or_a_dead_letter(
        concurrency in 1usize..4,
        scripts in proptest::collection::vec(proptest::collection::vec(any_act(), 0..4), 1..8),
        outages in proptest::collection::vec(1u32..20_000, 0..3),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(soak(concurrency, scripts, outages));
    }
}
