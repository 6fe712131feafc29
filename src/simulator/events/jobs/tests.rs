use std::num::NonZeroU32;

use serde_json::{Value, json};

use crate::simulator::{
    options::Engine,
    tests::{bench, credentials, subscriber, wish},
    workspace::{ORG, RESOURCE},
};

fn fast(options: &mut crate::simulator::options::Options) {
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

#[tokio::test]
async fn a_first_attempt_can_break_off_and_the_second_comes_whole() {
    for (fault, whole) in [("half-body", 1), ("disconnect", 1), ("read-timeout", 2)] {
        let subscriber = subscriber(&credentials().ca).await;
        let bench = bench(fast).await;
        let row =
            json!({ "endPoint": subscriber.url, "consumer": "/org/x", "resourceFilter": RESOURCE });
        bench.control("POST", "subscriptions", &row).await;
        bench.control("POST", "faults", &json!({ "push": fault })).await;
        bench.control("POST", "events", &json!({ "resource": RESOURCE, "subject": ORG })).await;
        let deliveries = bench.until("deliveries", |seen| seen[1]["status"] == 200).await;
        let error = deliveries[0]["error"].as_str().unwrap();
        assert!(error.contains("on purpose"), "{fault}: {deliveries}");
        subscriber.script.after(whole).await;
        let bodies: Vec<_> = subscriber.script.seen().into_iter().map(|seen| seen.body).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{fault}");
    }
}

#[tokio::test]
async fn events_can_be_odd_doubled_or_anothers_and_one_denial_holds_for_an_hour() {
    let bench = bench(|_| {}).await;
    let order = json!({
        "resource": RESOURCE, "subject": ORG, "twins": true,
        "without": ["time", "subject"], "attributes": { "newattribute": "x", "type": "odd" },
    });
    let told = bench.control("POST", "events", &order).await;
    assert_eq!(told["ids"].as_array().unwrap().len(), 2);
    assert_ne!(told["ids"][0], told["ids"][1]);
    let order = json!({ "resource": RESOURCE, "subject": ORG, "dialogporten": true });
    bench.control("POST", "events", &order).await;
    let stored: Vec<_> = {
        let tables = bench.state().tables();
        tables.events.iter().map(|stored| stored.event.clone()).collect()
    };
    let odd = &stored[0];
    assert_eq!((odd.get("time"), odd.get("subject"), odd.get("type")), (None, None, Some("odd")));
    assert_eq!(odd.get("newattribute"), Some("x"));
    assert_eq!(odd.get("resourceinstance"), stored[1].get("resourceinstance"));
    assert!(stored[2].text("type").starts_with("dialogporten."));

    let row = json!({ "endPoint": "https://x/", "consumer": "/org/x", "resourceFilter": RESOURCE });
    bench.control("POST", "subscriptions", &row).await;
    let denial = json!({ "resource": RESOURCE, "consumer": "/org/x" });
    bench.control("POST", "denials", &denial).await;
    let order = json!({ "resource": RESOURCE, "type": "new", "subject": ORG });
    assert_eq!(bench.control("POST", "events", &order).await["pushes"], 0);
}
