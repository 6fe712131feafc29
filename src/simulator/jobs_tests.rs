use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::super::{
    options::Engine,
    tests::{bench, credentials, subscriber, wish},
    workspace::{ORG, RESOURCE},
};

fn fast(options: &mut super::super::options::Options) {
    options.time_scale = NonZeroU32::new(10_000_000).unwrap();
}

#[tokio::test]
async fn a_push_is_tried_twelve_or_thirteen_times_and_then_given_up() {
    for (engine, attempts) in [(Engine::A, 13), (Engine::B, 12)] {
        let subscriber = subscriber(&credentials().ca).await;
        let bench = bench(|options| {
            fast(options);
            options.engine = engine;
        })
        .await;
        let row =
            json!({ "endPoint": subscriber.url, "consumer": "/org/x", "resourceFilter": RESOURCE });
        bench.control("POST", "subscriptions", &row).await;
        for status in [400, 404, 410, 425, 429, 500, 502, 503, 504, 401, 403, 405, 409] {
            subscriber.script.then(status, None);
        }
        bench.control("POST", "events", &json!({ "resource": RESOURCE, "subject": ORG })).await;
        bench.until("requests", |seen| seen["dead_letters"] == 1 && seen["waiting"] == 0).await;
        assert_eq!(subscriber.script.seen().len(), attempts, "{engine:?}");
        let deliveries = bench.control("GET", "deliveries", &Value::Null).await;
        assert_eq!(deliveries[0]["status"], 400);
        assert_eq!(deliveries[attempts - 1]["attempt"], attempts);
    }
}

#[tokio::test]
async fn validation_is_tried_five_or_nine_times_under_a_new_id_and_leaves_the_row() {
    for (engine, attempts) in [(Engine::A, 5), (Engine::B, 9)] {
        let subscriber = subscriber(&credentials().ca).await;
        let bench = bench(|options| {
            fast(options);
            options.engine = engine;
        })
        .await;
        for _ in 0..attempts {
            subscriber.script.then(503, None);
        }
        assert_eq!(bench.subscribe(&wish(&subscriber.url)).await.0, 201);
        bench.until("requests", |seen| seen["dead_letters"] == 1).await;
        let bodies: std::collections::HashSet<String> =
            subscriber.script.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies.len(), attempts, "{engine:?}");
        let rows = bench.control("GET", "subscriptions", &Value::Null).await;
        assert_eq!(rows[0]["validated"], false);
        assert_eq!(bench.subscribe(&wish(&subscriber.url)).await.0, 201);
        bench.until("subscriptions", |rows| rows[0]["validated"] == true).await;
    }
}

#[tokio::test]
async fn a_validation_can_come_before_the_row_is_answered() {
    let subscriber = subscriber(&credentials().ca).await;
    let bench = bench(|_| {}).await;
    bench.control("POST", "faults", &json!({ "events": "validate-first" })).await;
    assert_eq!(bench.subscribe(&wish(&subscriber.url)).await.0, 201);
    assert_eq!(subscriber.script.seen().len(), 1);
}

#[tokio::test]
async fn an_event_can_be_dropped_or_doubled_on_its_way() {
    let subscriber = subscriber(&credentials().ca).await;
    let bench = bench(|_| {}).await;
    let row =
        json!({ "endPoint": subscriber.url, "consumer": "/org/x", "resourceFilter": RESOURCE });
    bench.control("POST", "subscriptions", &row).await;
    for (fault, pushes) in [("drop", 0), ("duplicate", 2), ("shuffle", 1)] {
        bench.control("POST", "faults", &json!({ "push": fault })).await;
        let order = json!({ "resource": RESOURCE, "subject": ORG });
        assert_eq!(bench.control("POST", "events", &order).await["pushes"], pushes, "{fault}");
    }
    subscriber.script.after(3).await;
    let seen = bench.control("GET", "requests", &Value::Null).await;
    assert_eq!(seen["stored_events"], 3);
}
