use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::{
    altinn::testing::{CREATE, EXCHANGE, LIST, Reply, Rig, Seen, TOKEN, signed_in},
    clock::{Clock, Timestamp},
    metrics::CallLabels,
};

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_800_000_000_000))
}

async fn rig(events: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Rig {
    let clock = clock();
    Rig::new(&clock, signed_in(&clock, events)).await
}

fn empty() -> Reply {
    Reply::new(200, json!({"count": 0, "subscriptions": []}))
}

fn spec() -> Spec {
    Spec {
        endpoint: "https://h.example/hooks/a?code=abc".parse().unwrap(),
        resource: "urn:altinn:resource:Nabovarsel".to_owned(),
        subject: Some("urn:altinn:organization:identifier-no:999888777".to_owned()),
        ty: Some("no.altinn.x".to_owned()),
        include_subunits: true,
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_call_repeated() {
    let refusals = AtomicUsize::new(1);
    let rig = rig(move |_| match refusals.swap(0, Ordering::SeqCst) {
        0 => empty(),
        _ => Reply::new(401, ""),
    });
    let rig = rig.await;
    rig.events.list().await.unwrap();
    assert_eq!(rig.server.calls(), [TOKEN, EXCHANGE, LIST, TOKEN, EXCHANGE, LIST]);
    let tokens: Vec<_> =
        rig.server.seen().iter().map(|seen| seen.headers.get("authorization").cloned()).collect();
    assert_ne!(tokens[2], tokens[5]);
    let label = |call, result| CallLabels { call, result };
    for (label, count) in [
        (label("token", "ok"), 2),
        (label("exchange", "ok"), 2),
        (label("list", "failed"), 1),
        (label("list", "ok"), 1),
    ] {
        assert_eq!(rig.metrics.calls.get_or_create(&label).get(), count, "{label:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_twice_is_an_error() {
    let rig = rig(|_| Reply::new(401, r#"{"statusCode":401,"message":"missing key"}"#)).await;
    let error = rig.events.list().await.unwrap_err();
    assert_eq!(error.to_string(), "Altinn refuses the token (401): missing key");
    assert!(!error.concerns_one());
    assert_eq!(rig.server.count(LIST), 2);
    assert_eq!(rig.server.count(TOKEN), 2);
}

#[tokio::test]
async fn twenty_callers_at_the_same_time_make_one_grant() {
    let rig = rig(|_| empty()).await;
    for listed in join_all((0..20).map(|_| rig.events.list())).await {
        assert_eq!(listed.unwrap(), []);
    }
    assert_eq!((rig.server.count(TOKEN), rig.server.count(LIST)), (1, 20));
}

#[tokio::test]
async fn a_subscription_is_asked_for_in_altinns_words() {
    let rig = rig(|_| Reply::new(201, json!({"id": 7, "validated": false}))).await;
    assert_eq!(rig.events.create(&spec()).await.unwrap().id, SubscriptionId(7));
    let expected = json!({
        "endPoint": "https://h.example/hooks/a?code=abc",
        "resourceFilter": "urn:altinn:resource:nabovarsel",
        "subjectFilter": "urn:altinn:organization:identifier-no:999888777",
        "typeFilter": "no.altinn.x",
        "includeSubunits": true,
    });
    let seen = rig.server.seen().pop().unwrap();
    assert_eq!((seen.call.as_str(), seen.json()), (CREATE, expected));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let bare = Spec { subject: None, ty: Some(String::new()), include_subunits: false, ..spec() };
    rig.events.create(&bare).await.unwrap();
    let expected = json!({
        "endPoint": "https://h.example/hooks/a?code=abc",
        "resourceFilter": "urn:altinn:resource:nabovarsel",
    });
    assert_eq!(rig.server.seen().pop().unwrap().json(), expected);
}

#[tokio::test]
async fn a_list_is_read_whatever_is_left_out_or_added() {
    let body = json!({"count": 3, "subscriptions": [
        {
            "id": 1619, "endPoint": "https://h.example/hooks/a", "sourceFilter": "https://s.example/",
            "resourceFilter": "urn:x", "subjectFilter": "s", "typeFilter": "t",
            "consumer": "/org/digdir", "createdBy": "/org/digdir",
            "created": "2023-04-05T13:57:11.234994Z", "validated": true, "includeSubunits": true,
        },
        {"id": 2, "sourceFilter": null, "new": [1]},
        {"id": 3, "endpoint": "not a url"},
    ]});
    let rig = rig(move |_| Reply::new(200, &body)).await;
    let rows = rig.events.list().await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let full = Observed {
        id: SubscriptionId(1619),
        endpoint: text("https://h.example/hooks/a"),
        source: text("https://s.example/"),
        resource: text("urn:x"),
        subject: text("s"),
        ty: text("t"),
        consumer: text("/org/digdir"),
        created: text("2023-04-05T13:57:11.234994Z"),
        validated: true,
        include_subunits: true,
    };
    assert_eq!(rows[0], full);
    assert_eq!((rows[1].source.as_ref(), rows[1].validated), (None, false));
    assert_eq!(rows[2].endpoint.as_deref(), Some("not a url"));
}

#[tokio::test]
async fn each_refusal_is_told_apart_and_in_words() {
    type Is = fn(&ApiError) -> bool;
    let cases: [(u16, &str, &str, Is); 12] = [
        (403, "", "altinn:events.subscribe", |e| matches!(e, ApiError::MissingScope)),
        (
            403,
            r#""Not authorized to create a subscription for resource urn:x.""#,
            "policy (403): Not authorized",
            |e| matches!(e, ApiError::NotAuthorized(_)),
        ),
        (404, "", "no such", |e| matches!(e, ApiError::NotFound)),
        (400, r#""Resource filter must be a valid urn""#, "must be a valid urn", |e| {
            matches!(e, ApiError::Rejected { .. })
        }),
        (
            400,
            r#"{"title":"One or more","errors":{"$":["trailing comma"]},"traceId":"00-1"}"#,
            "One or more: trailing comma",
            |e| e.text().trace_id.as_deref() == Some("00-1"),
        ),
        (415, "", "415", |e| matches!(e, ApiError::Rejected { .. })),
        (301, "", "301", |e| matches!(e, ApiError::Busy { .. })),
        (429, "", "429", |e| e.retry_after() == Some(Duration::from_secs(7))),
        (503, "<html>", "an HTML page", |e| e.retry_after() == Some(Duration::from_secs(7))),
        (500, r#"{"title":"An error occurred"}"#, "An error occurred", |e| !e.concerns_one()),
        (200, "{", "line 1, column 1", |e| matches!(e, ApiError::Malformed(_))),
        (200, r#"{"subscriptions":[{"id":"secret"}]}"#, "line 1", |e| {
            !e.to_string().contains("secret")
        }),
    ];
    for (status, body, text, is) in cases {
        let rig = rig(move |_| Reply::new(status, body).header("Retry-After", 7)).await;
        let error = rig.events.list().await.unwrap_err();
        assert!(error.to_string().contains(text) && is(&error), "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn a_list_may_be_large_but_not_without_end() {
    let row = json!({"id": 1, "consumer": "x".repeat(1000)});
    for (rows, good) in [(3000, true), (5000, false)] {
        let body = json!({"subscriptions": vec![row.clone(); rows]});
        let rig = rig(move |_| Reply::new(200, &body)).await;
        assert_eq!(rig.events.list().await.is_ok(), good, "{rows}");
    }
}

#[tokio::test]
async fn a_subscription_is_deleted_by_its_number() {
    let rig = rig(|_| Reply::new(200, "")).await;
    rig.events.delete(SubscriptionId(7)).await.unwrap();
    assert_eq!(rig.server.calls().pop().unwrap(), "DELETE /events/api/v1/subscriptions/7");
}

#[tokio::test]
async fn an_altinn_that_is_gone_cannot_be_reached() {
    let clock = clock();
    let Rig { server, events, .. } = Rig::new(&clock, signed_in(&clock, |_| empty())).await;
    events.list().await.unwrap();
    let address = server.url.to_string();
    drop(server);
    let error = events.list().await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable(_)), "{error}");
    assert!(!error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn debug_shows_no_secret_and_no_subject() {
    let rig = rig(|_| empty()).await;
    rig.events.list().await.unwrap();
    let token = rig.events.tokens().token().await.unwrap();
    let shown = format!("{:?} {:?}", spec(), rig.events);
    let key = std::fs::read_to_string(rig.config.maskinporten.key_file.path()).unwrap();
    for secret in ["code=abc", "999888777", token.secret().expose_secret(), &key[40..80]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn everyone_stays_away_from_a_call_for_as_long_as_altinn_asked_one_to() {
    let rig = rig(|seen| match seen.call.as_str() {
        LIST => Reply::new(429, "").header("retry-after", 900),
        _ => Reply::new(201, json!({ "id": 1 })),
    });
    let rig = rig.await;
    let error = rig.events.list().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));
    let error = rig.events.clone().list().await.unwrap_err();
    assert!(error.retry_after().unwrap() > Duration::from_secs(800), "{error}");
    assert_eq!(rig.server.count(LIST), 1);
    // Another call was not meant.
    rig.events.create(&spec()).await.unwrap();
}
