use super::*;

#[tokio::test]
async fn an_outage_is_waited_out_and_what_was_known_stays() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let reconciler = case.reconciler(Timing {
        interval: Duration::from_millis(5),
        retry: soon(),
        watch: soon(),
        ..slow()
    });
    let mut state = reconciler.status();
    while_running(&case, reconciler, async {
        until(&mut state, |state| state.subscriptions.values().any(|one| one.id.is_some())).await;
        case.altinn.validate_all();
        until(&mut state, |state| state.subscriptions[&name("a")].validated).await;
        case.altinn.outage.store(503, Ordering::SeqCst);
        let seen = until(&mut state, |state| state.error.is_some()).await;
        assert_eq!(
            seen.error,
            Some(ErrorText::new("Altinn cannot now (503 Service Unavailable): down"))
        );
        assert!(seen.subscriptions[&name("a")].validated);
        assert_eq!(case.gauge("a"), 1);
        case.altinn.outage.store(0, Ordering::SeqCst);
        until(&mut state, |state| state.error.is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn failures_are_spaced_more_and_more_and_no_wake_up_shortens_what_altinn_asks() {
    let case = Case::new(vec![]).await;
    let timing = Timing::from_interval(Duration::from_secs(600)).unwrap();
    let reconciler = case.reconciler(timing);
    let busy = |retry_after| {
        let status = http::StatusCode::TOO_MANY_REQUESTS;
        PassError::Altinn(ApiError::Busy { status, words: ErrorText::default(), retry_after })
    };
    let mut streak = Streak::default();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = Instant::now();
        let next = reconciler.next(Err(&busy(None)), &mut streak);
        waits.push(next.due - before);
        assert!(next.earliest - before >= Duration::from_secs(1));
    }
    assert!(waits[0] <= Duration::from_secs(2), "{waits:?}");
    assert!(waits[4] >= Duration::from_secs(8), "{waits:?}");
    assert!(waits[11] >= Duration::from_secs(150), "{waits:?}");
    let before = Instant::now();
    let next = reconciler.next(Err(&busy(Some(Duration::from_secs(900)))), &mut streak);
    assert!(next.earliest - before >= Duration::from_secs(900));
    let before = Instant::now();
    let next = reconciler.next(Ok(&Outlook::Settled), &mut streak);
    let wait = next.due - before;
    assert!(wait >= Duration::from_secs(540) && wait <= Duration::from_secs(661), "{wait:?}");
    let wait = |outlook: Outlook, streak: &mut Streak| {
        reconciler.next(Ok(&outlook), streak).due - Instant::now()
    };
    assert!(wait(Outlook::Awaiting { asked: true }, &mut streak) <= Duration::from_secs(1));
    for _ in 0..10 {
        wait(Outlook::Awaiting { asked: false }, &mut streak);
    }
    let slowest = wait(Outlook::Awaiting { asked: false }, &mut streak);
    assert!(slowest > Duration::from_secs(29) && slowest <= Duration::from_secs(30), "{slowest:?}");
}
