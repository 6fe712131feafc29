use serde_json::Value;

use super::*;
use crate::{clock::Timestamp, queue::model::ModelQueue};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn subscription(state: &str, troubles: &[&str]) -> schema::Subscription {
    schema::Subscription {
        name: "innboks".to_owned(),
        id: None,
        state: state.to_owned(),
        since: None,
        last_checked: None,
        last_push: None,
        last_error: None,
        last_feed_event: None,
        last_feed_read: None,
        events_by_push: 0,
        events_by_feed: 0,
        troubles: troubles.iter().map(|&trouble| trouble.to_owned()).collect(),
    }
}

fn admin(subscription: schema::Subscription) -> Admin<ModelQueue> {
    let clock = Clock::manual(START);
    let outside = Outside {
        subscriptions: Box::new(move || vec![subscription.clone()]),
        unmatched: Box::new(schema::Unmatched::default),
        accepting: Box::new(|| true),
        rotate: Arc::new(|_| Err(RotateError::Unknown)),
        redecode: Box::new(|_| Err("the body is empty".to_owned())),
        on_stored: Box::new(|_| {}),
    };
    Admin {
        queue: ModelQueue::new(&[], clock.clone()),
        metrics: Metrics::default(),
        clock,
        outside: Arc::new(outside),
        access: Access::Socket,
        bulk: Bulk::default(),
    }
}

async fn text(answer: Answer) -> String {
    use http_body_util::BodyExt;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn status(admin: &Admin<ModelQueue>) -> Value {
    let Ok(answer) = admin.status().await else { panic!("no status") };
    serde_json::from_str(&text(answer).await).unwrap()
}

#[tokio::test]
async fn readiness_the_status_and_the_metrics_say_what_the_store_says() {
    let full = Some(QueueError::Full("the disk has less than min_free_disk"));
    let broken = Some(QueueError::Unavailable("disk".into()));
    let damage = Some("event 7".to_owned());
    let no_room = "the queue is full: the disk has less than min_free_disk";
    let damaged = "the store is damaged, see `brevdue verify`: event 7";
    let fails = "the store does not work: disk";
    let admin = admin(subscription("validated", &[]));
    // What the store refuses and has lost; the reason; what the metrics are then. Damage is told
    // until the next start.
    for (refusal, damage, reason, writable, was_damaged) in [
        (None, None, None, 1, 0),
        (full.clone(), None, Some(no_room), 0, 0),
        (None, None, None, 1, 0),
        (broken.clone(), None, Some(fails), 0, 0),
        (None, damage.clone(), Some(damaged), 1, 1),
        (full, damage.clone(), Some(damaged), 1, 1),
        (broken, damage, Some(fails), 0, 1),
        (None, None, None, 1, 1),
    ] {
        admin.queue.refuse(refusal);
        admin.queue.damage(damage);
        let ready = admin.ready();
        assert_eq!(ready.status(), if reason.is_some() { 503 } else { 200 }, "{reason:?}");
        let said = reason.map_or("ready\n".to_owned(), |why| format!("not ready: {why}\n"));
        assert_eq!(text(ready).await, said);
        let status = status(&admin).await;
        assert_eq!(status["ready"], reason.is_none());
        assert_eq!(status["not_ready"].as_str(), reason);
        assert_eq!(status["state"], if reason.is_some() { "degraded" } else { "ok" });
        assert_eq!(status["reasons"], serde_json::json!(Vec::from_iter(reason)));
        let page = text(admin.metrics().await).await;
        for line in [
            format!("brevdue_store_writable {writable}\n"),
            format!("brevdue_store_damaged {was_damaged}\n"),
        ] {
            assert!(page.contains(&line), "{reason:?}: no {line} in {page}");
        }
    }
}

#[tokio::test]
async fn the_status_says_why_a_person_should_look_at_a_subscription() {
    let mut failed = subscription("validated", &[]);
    failed.last_error = Some("answered 500".to_owned());
    for (subscription, reason) in [
        (subscription("validated", &[]), None),
        (subscription("missing", &[]), Some("subscription innboks: missing")),
        (failed, Some("subscription innboks: answered 500")),
        (
            subscription("missing", &["no pushes", "no feed"]),
            Some("subscription innboks: no pushes; no feed"),
        ),
    ] {
        let status = status(&admin(subscription)).await;
        assert_eq!(status["ready"], true);
        assert_eq!(status["state"], if reason.is_some() { "degraded" } else { "ok" });
        assert_eq!(status["reasons"], serde_json::json!(Vec::from_iter(reason)));
    }
}

#[tokio::test]
async fn a_jump_of_the_clock_is_counted_and_shown_for_a_day() {
    let admin = admin(subscription("validated", &[]));
    assert_eq!(status(&admin).await["clock_jumped"], false);
    admin.clock.set_wall(START.after(std::time::Duration::from_secs(3600)));
    let status = status(&admin).await;
    assert_eq!((&status["clock_jumped"], &status["state"]), (&true.into(), &"ok".into()));
    let page = text(admin.metrics().await).await;
    assert!(page.contains("brevdue_clock_jumps_total 1\n"), "{page}");
}
