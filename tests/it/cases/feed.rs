//! No gap: what Altinn did not push comes by its feed, once, and nothing old comes again.

use std::{collections::BTreeSet, num::NonZeroU32};

use brevdue::simulator::options::Decision;
use serde_json::{Value, json};

use crate::support::{
    daemon::Daemon,
    eventually,
    receiver::Received,
    world::{ORG, QUICK_RETRY, RESOURCE, World, event},
};

/// Altinn's 34 h 47 min of retries in six seconds, its cache hour in a fifth of one.
const VERY_FAST: u32 = 20_000;
/// The feed's 30 s in a third of one: pushes are well before it.
const UNHURRIED: u32 = 100;
/// The feed's 30 s in one and a half; the cache hour outlives a test.
const FAST: u32 = 20;

/// Altinn's time runs `scale` times as fast; `settings` are further lines of `[altinn]`.
async fn world(scale: u32, settings: &str) -> World {
    let scale = NonZeroU32::new(scale).unwrap();
    let world = World::with(|options| options.time_scale = scale, QUICK_RETRY, "").await;
    configure(&world, "\n[altinn]\n", &format!("\n[altinn]\nfeed_interval = \"1s\"\n{settings}\n"));
    world
}

fn configure(world: &World, from: &str, to: &str) {
    let config = std::fs::read_to_string(&world.config).unwrap();
    assert!(config.contains(from), "{config}");
    std::fs::write(&world.config, config.replace(from, to)).unwrap();
}

async fn subscription(daemon: &Daemon) -> Value {
    daemon.get("/v1/subscriptions").await[0].clone()
}

fn troubles(subscription: &Value) -> Vec<String> {
    serde_json::from_value(subscription["troubles"].clone()).unwrap()
}

fn is_silent(subscription: &Value) -> bool {
    troubles(subscription).iter().any(|trouble| trouble.contains("did not push"))
}

/// Waits until all of these were delivered; then each was, exactly once.
async fn delivered_once(world: &World, ids: &[String]) {
    world.once_each(ids).await;
}

async fn drop_pushes(world: &World, drop: bool) {
    let fault = if drop { json!({ "push": "drop" }) } else { json!({}) };
    world.tell_altinn("faults", &fault).await;
}

/// An event of Correspondence's with these members changed.
fn changed(id: &str, members: &Value) -> Value {
    let mut event: Value = serde_json::from_str(&event(id)).unwrap();
    for (name, value) in members.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_longer_than_altinns_retries_every_event_is_there() {
    let world = world(VERY_FAST, "").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let before = world.publish(3).await;
    world.receiver.wait_for(before.len()).await;
    assert!(daemon.stop().await.success());

    let missed = world.publish(40).await;
    eventually("all of Altinn's attempts", || async {
        let requests = world.altinn("requests").await;
        (requests["dead_letters"] == 40 && requests["waiting"] == 0).then_some(())
    })
    .await;
    let daemon = world.daemon().await;
    delivered_once(&world, &missed).await;
    delivered_once(&world, &before).await;
    let metrics = daemon.metrics().await;
    assert!(metrics.contains("brevdue_feed_events_total{hook=\"innboks\"} 40"), "{metrics}");
    // The outage was ours: nothing is wrong with Altinn.
    let subscription = subscription(&daemon).await;
    assert!(!is_silent(&subscription), "{subscription}");
    assert_eq!(subscription["events_by_feed"], 40);
    // And the cursor is behind them: a third start brings nothing.
    assert!(daemon.stop().await.success());
    let daemon = world.daemon().await;
    eventually("the feed's end", || async { subscription_read(&daemon).await.then_some(()) }).await;
    let metrics = daemon.metrics().await;
    assert!(!metrics.contains("brevdue_feed_events_total{hook=\"innboks\"}"), "{metrics}");
    assert_eq!(world.receiver.received().len(), 43);
    assert!(daemon.stop().await.success());
}

async fn subscription_read(daemon: &Daemon) -> bool {
    subscription(daemon).await["last_feed_read"].is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscription_misses_nothing_while_altinn_pushes_by_an_old_list() {
    let world = world(FAST, "").await;
    // Nobody subscribes yet, and that is remembered for an hour.
    world.publish(1).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let order = json!({ "resource": RESOURCE, "subject": ORG, "count": 5 });
    let answer = world.tell_altinn("events", &order).await;
    assert_eq!(answer["pushes"], 0);
    let ids: Vec<String> = serde_json::from_value(answer["ids"].clone()).unwrap();
    delivered_once(&world, &ids).await;
    // So it is with a new subscription: nothing to tell anyone.
    let subscription = subscription(&daemon).await;
    assert!(!is_silent(&subscription), "{subscription}");
    assert_eq!(subscription["events_by_push"], 0);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_altinn_does_not_push_come_by_the_feed_and_the_silence_is_told() {
    let world = world(UNHURRIED, "overlap = \"1s\"").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    eventually("health", || async {
        (daemon.get("/v1/status").await["state"] == "ok").then_some(())
    })
    .await;
    drop_pushes(&world, true).await;
    let mut ids = world.publish(10).await;
    delivered_once(&world, &ids).await;
    // While the subscription is new, it has an excuse; so publish until it has none.
    let subscription = eventually("the silence", || async {
        world.publish(1).await;
        Some(subscription(&daemon).await).filter(is_silent)
    })
    .await;
    assert_eq!(subscription["last_push"], Value::Null);
    assert!(subscription["last_feed_event"].is_string(), "{subscription}");
    assert_eq!(daemon.get("/v1/status").await["state"], "degraded");
    eventually("a line in the log, and a metric", || async {
        let metrics = daemon.metrics().await;
        let degraded = metrics.contains("brevdue_subscription_degraded{hook=\"innboks\"} 1");
        (degraded && daemon.log().contains("the feed brings events that")).then_some(())
    })
    .await;

    // It ends when events are pushed again, some time after the last that was not.
    let stored = world.altinn("requests").await["stored_events"].clone();
    eventually("everything that was not pushed", || async {
        let brought = daemon.get("/v1/subscriptions").await[0]["events_by_feed"].clone();
        (brought == stored).then_some(())
    })
    .await;
    drop_pushes(&world, false).await;
    ids.extend(world.publish(1).await);
    delivered_once(&world, &ids).await;
    eventually("health again", || async {
        (daemon.get("/v1/status").await["state"] == "ok").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_altinn_forgets_the_cursor_nothing_is_lost_and_nothing_old_comes() {
    let world = world(VERY_FAST, "").await;
    drop_pushes(&world, true).await;
    let old = json!({ "time": "2020-01-01T00:00:00Z" });
    for id in ["old-1", "old-2", "old-3"] {
        world.tell_altinn("events", &changed(id, &old)).await;
    }
    let daemon = world.daemon().await;
    world.validated(1).await;
    let cursor = world.publish(1).await;
    delivered_once(&world, &cursor).await;
    assert_eq!(world.receiver.received().len(), 1);
    let gone = world.delete_at_altinn(&format!("events/{}", cursor[0])).await;
    assert!(gone.status().is_success());
    let after = world.publish(2).await;
    delivered_once(&world, &after).await;
    assert_eq!(world.receiver.received().len(), 3);
    let metrics = daemon.metrics().await;
    let skipped = "brevdue_feed_items_skipped_total{hook=\"innboks\",reason=\"old\"} 3";
    assert!(metrics.contains(skipped), "{metrics}");
    let log = daemon.stopped().await;
    assert_eq!(log.matches("does not know the feed's cursor").count(), 1, "{log}");
}

const HIDDEN: &str = "urn:altinn:organization:identifier-no:999888777";

/// A world whose daemon reads from the oldest event on, and may not see those with the subject
/// [`HIDDEN`]. Nothing is pushed.
async fn world_with_hidden_events(feed_interval: &str) -> World {
    let decide = |subject: Option<&str>, permit| Decision {
        consumer: None,
        resource: RESOURCE.to_owned(),
        subject: subject.map(str::to_owned),
        permit,
    };
    let world = World::with(
        |options| {
            options.time_scale = NonZeroU32::new(VERY_FAST).unwrap();
            options.decisions = vec![decide(Some(HIDDEN), false), decide(None, true)];
        },
        QUICK_RETRY,
        "",
    )
    .await;
    let settings = format!("\n[altinn]\nfeed_interval = \"{feed_interval}\"\n");
    configure(&world, "\n[altinn]\n", &settings);
    configure(&world, &format!("subject = \"{ORG}\"\n"), "start_from = \"oldest\"\n");
    drop_pushes(&world, true).await;
    world
}

async fn publish_hidden(world: &World) {
    let order = json!({ "resource": RESOURCE, "subject": HIDDEN, "count": 900 });
    world.tell_altinn("events", &order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_between_many_that_may_not_be_seen_are_found_from_the_oldest_on() {
    let world = world_with_hidden_events("1s").await;
    let mut ids = Vec::new();
    for count in [1, 2, 3] {
        publish_hidden(&world).await;
        ids.extend(world.publish(count).await);
    }
    let daemon = world.daemon().await;
    delivered_once(&world, &ids).await;
    assert_eq!(world.receiver.received().len(), ids.len());
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_page_that_is_empty_after_failures_is_not_taken_for_the_end() {
    // Between two readings there is more time than a test has.
    let world = world_with_hidden_events("2m").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    eventually("a first reading", || async { subscription_read(&daemon).await.then_some(()) })
        .await;
    assert!(daemon.stop().await.success());
    publish_hidden(&world).await;
    let ids = world.publish(1).await;
    world.tell_altinn("faults", &json!({ "push": "drop", "status": { "feed": 500 } })).await;
    let reads = async || world.altinn("requests").await["feed_reads"].as_u64().unwrap();
    let before = reads().await;
    let daemon = world.daemon().await;
    // After three failures less is asked for at once.
    eventually("three failures", async || (reads().await >= before + 3).then_some(())).await;
    drop_pushes(&world, true).await;
    delivered_once(&world, &ids).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_no_cloud_event_is_a_dead_letter_and_the_feed_goes_on() {
    let world = world(VERY_FAST, "").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    drop_pushes(&world, true).await;
    let bad = json!({ "resource": RESOURCE, "subject": ORG, "attributes": { "source": "" } });
    world.tell_altinn("events", &bad).await;
    // One that only breaks a rule is an event.
    let odd = json!({ "source": "not a URI | at all" });
    world.tell_altinn("events", &changed("odd", &odd)).await;
    let mut ids = world.publish(2).await;
    ids.push("odd".to_owned());
    delivered_once(&world, &ids).await;
    let letters = daemon.get("/v1/dead-letters").await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!(letters[0]["raw"]["hook"], "innboks");
    assert_eq!(letters[0]["reason"], "from the feed: source is empty");
    assert!(daemon.metrics().await.contains("brevdue_events_odd_total{hook=\"innboks\"} 1"));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_cannot_be_read_is_told_and_read_when_it_works_again() {
    for fault in ["429", "500"] {
        let world = world(VERY_FAST, "").await;
        let daemon = world.daemon().await;
        world.validated(1).await;
        eventually("a first reading", || async { subscription_read(&daemon).await.then_some(()) })
            .await;
        world.tell_altinn("faults", &json!({ "push": "drop", "events": fault })).await;
        let ids = world.publish(3).await;
        eventually("the trouble", || async {
            let troubles = troubles(&subscription(&daemon).await);
            troubles.iter().any(|trouble| trouble.contains("feed cannot be read")).then_some(())
        })
        .await;
        assert!(world.receiver.received().is_empty());
        drop_pushes(&world, true).await;
        delivered_once(&world, &ids).await;
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_the_feed_is_read_loses_nothing_and_repeats_nothing() {
    let world = world(VERY_FAST, "").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    drop_pushes(&world, true).await;
    let mut ids = Vec::new();
    daemon.kill();
    for _ in 0..4 {
        ids.extend(world.publish(250).await);
        let seen = world.receiver.received().len();
        let daemon = world.daemon().await;
        // Somewhere in the middle of it.
        world.receiver.wait_for(seen + 1).await;
        daemon.kill();
    }
    let daemon = world.daemon().await;
    eventually("every event", || async {
        let status = daemon.get("/v1/status").await;
        let all = status["log"]["dedup_ids"] == ids.len();
        (all && status["handlers"][0]["pending"] == 0).then_some(())
    })
    .await;
    // A handler may see again what it had in the last moments; the log had each once.
    let received = world.receiver.received();
    let seen: BTreeSet<_> = received.iter().map(Received::id).collect();
    assert_eq!(seen, ids.into_iter().collect());
    assert!(daemon.stop().await.success());
}
