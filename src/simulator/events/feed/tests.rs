use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use serde_json::{Value, json};

use crate::simulator::{
    auth::exchange::Caller,
    events::{cloud_event::CloudEvent, jobs},
    options::Decision,
    state::State,
    tests::{signed_in, state, text},
    workspace::RESOURCE,
};

async fn feed(state: &Arc<State>, query: &str) -> (u16, Vec<String>, Option<String>) {
    let headers = signed_in(state, "altinn:events.subscribe", None).await;
    let caller = Caller::of(state, &headers).unwrap();
    let answer = super::read(state, &caller, query, &HeaderMap::new());
    let next = answer.headers().get("next").map(|next| next.to_str().unwrap().to_owned());
    let (status, body) = text(answer).await;
    let items: Value = serde_json::from_str(&body).unwrap();
    let ids = items.as_array().into_iter().flatten();
    let ids = ids.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    (status.as_u16(), ids, next)
}

fn publish(state: &Arc<State>, id: &str, subject: &str) {
    let event = json!({ "specversion": "1.0", "id": id, "type": "no.a_b", "source": "s", "resource": RESOURCE, "subject": subject });
    jobs::publish(state, CloudEvent::read(event.to_string().as_bytes()).unwrap()).unwrap();
}

#[tokio::test]
async fn pages_are_cut_before_they_are_authorized_and_next_is_not_escaped() {
    let state = state(|options| {
        options.time_scale = std::num::NonZeroU32::MIN;
        options.decisions = vec![Decision {
            consumer: None,
            resource: RESOURCE.to_owned(),
            subject: Some("no".to_owned()),
            permit: false,
        }];
    });
    for (id, subject) in [("a", "x"), ("b", "no"), ("c", "no"), ("d", "x"), ("d", "x")] {
        publish(&state, id, subject);
    }
    let all = format!("resource={RESOURCE}&after=0");
    state.options.clock.advance(Duration::from_secs(30));
    assert_eq!(feed(&state, &all).await, (200, vec![], None));
    state.options.clock.advance(Duration::from_secs(1));
    assert_eq!(feed(&state, &all).await.1, ["a", "d"]);
    assert_eq!(feed(&state, &format!("resource={RESOURCE}&after=gone")).await.1, ["a", "d"]);
    let (_, ids, next) = feed(&state, &format!("{all}&size=2&type=no.%25")).await;
    assert_eq!(ids, ["a"]);
    let expected =
        format!("http://sim/events/api/v1/events?after=a&resource={RESOURCE}&type=no.%&size=2");
    assert_eq!(next, Some(expected));
    let stuck = feed(&state, &format!("resource={RESOURCE}&after=a&size=2")).await;
    assert_eq!(stuck, (200, vec![], None));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_400() {
    let state = state(|_| {});
    for query in [
        "",
        "resource=nabovarsel&after=0",
        "resource=urn:altinn:resource:x",
        "resource=urn:altinn:resource:x&after=0&size=x",
    ] {
        let headers = signed_in(&state, "altinn:events.subscribe", None).await;
        let caller = Caller::of(&state, &headers).unwrap();
        let answer = super::read(&state, &caller, query, &HeaderMap::new());
        assert_eq!(answer.status(), 400, "{query}");
    }
}

#[test]
fn like_is_sqls() {
    for (pattern, text, expected) in [
        ("no.%", "no.altinn", true),
        ("No.%", "no.altinn", false),
        ("a_c", "abc", true),
        ("a_c", "ac", false),
        ("%b%", "abc", true),
        ("", "a", false),
        ("%", "", true),
        ("a\\%", "a%", true),
        ("a\\%", "ab", false),
    ] {
        assert_eq!(super::like(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn sizes_are_clamped() {
    for (text, expected) in [("0", 50), ("-1", 50), ("1", 1), ("1000", 1000), ("1001", 1000)] {
        assert_eq!(super::size(text).unwrap(), expected, "{text}");
    }
}
