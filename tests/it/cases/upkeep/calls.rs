//! How often a daemon asks Altinn, whatever Altinn answers.

use std::time::Duration;

use brevdue::simulator::options::Options;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::support::{
    daemon::Daemon,
    eventually,
    steps::rows,
    world::{QUICK_RETRY, World},
};

/// Altinn's own times, so that only the daemon's pace counts.
fn unchanged(_: &mut Options) {}

async fn lists(world: &World) -> u64 {
    world.altinn("requests").await["subscription_lists"].as_u64().unwrap()
}

/// Calls within some seconds: the pace of a hot loop shows at once.
async fn lists_within(world: &World, time: Duration) -> u64 {
    let (before, end) = (lists(world).await, Instant::now() + time);
    let mut tick = interval(Duration::from_millis(100));
    while Instant::now() < end {
        tick.tick().await;
    }
    lists(world).await - before
}

async fn rotated(world: &World, daemon: &Daemon, others: usize) -> Vec<Value> {
    let rotate = daemon.command(&["subscriptions", "rotate", "innboks"]);
    assert!(rotate.status.success(), "{}", String::from_utf8_lossy(&rotate.stderr));
    world.validated(others + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_before_a_rotation_makes_no_hot_loop() {
    let world = World::with(unchanged, QUICK_RETRY, "").await;
    world.altinn_settings("reconcile_interval = \"10m\"\noverlap = \"15s\"\n");
    let daemon = world.daemon().await;
    world.validated(1).await;
    world.tell_altinn("faults", &json!({ "status": { "delete": 403 } })).await;
    rotated(&world, &daemon, 1).await;
    eventually("a removal that fails", async || {
        let seen = world.altinn("requests").await["subscription_deletes"].as_u64().unwrap();
        (seen > 0).then_some(())
    })
    .await;
    // What was due to be removed is not due for another overlap.
    rotated(&world, &daemon, 2).await;
    assert_eq!(rows(&world).await.len(), 3);
    let listed = lists_within(&world, Duration::from_secs(8)).await;
    assert!(listed <= 12, "{listed} in eight seconds");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_by_all_that_ask() {
    let world = World::with(unchanged, QUICK_RETRY, "").await;
    world.altinn_settings("reconcile_interval = \"1s\"\nfeed_interval = \"1s\"\n");
    let daemon = world.daemon().await;
    world.validated(1).await;
    let fault = json!({ "status": { "list": 503, "feed": 429 }, "retry_after": 600 });
    world.tell_altinn("faults", &fault).await;
    eventually("both have been told", async || {
        let status = daemon.get("/v1/status").await.to_string();
        (status.contains("(503") && status.contains("(429")).then_some(())
    })
    .await;
    let before = world.altinn("requests").await;
    lists_within(&world, Duration::from_secs(4)).await;
    let after = world.altinn("requests").await;
    for call in ["subscription_lists", "feed_reads"] {
        assert_eq!(after[call], before[call], "{call}");
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_put_off_is_not_tried_again_before_its_time() {
    // A token lives this long, and is renewed after half of it.
    const LIFE: u64 = 12;
    let world = World::with(|options| options.lifetimes.altinn = LIFE, QUICK_RETRY, "").await;
    world.altinn_settings("reconcile_interval = \"1s\"\nfeed_interval = \"1s\"\n");
    let daemon = world.daemon().await;
    world.validated(1).await;
    let asked = async || world.altinn("requests").await["token_requests"].as_u64().unwrap();
    let fault = json!({ "status": { "token": 503 }, "retry_after": 600 });
    world.tell_altinn("faults", &fault).await;
    let before = asked().await;
    eventually("a renewal", async || (asked().await > before).then_some(())).await;
    // While the token still holds, and after that.
    let listed = lists_within(&world, Duration::from_secs(LIFE)).await;
    assert!(listed > 0, "it goes on with the token that it has");
    assert_eq!(asked().await, before + 1);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validation_that_never_comes_is_waited_for_without_haste() {
    let world = World::with(unchanged, QUICK_RETRY, "").await;
    world.tell_altinn("faults", &json!({ "events": "never-validate" })).await;
    let daemon = world.daemon().await;
    eventually("a row", async || (!rows(&world).await.is_empty()).then_some(())).await;
    let listed = lists_within(&world, Duration::from_secs(8)).await;
    let seen = world.altinn("requests").await;
    assert_eq!(seen["subscription_posts"], 1, "{seen}");
    assert!((1..=8).contains(&listed), "{listed}");
    assert_eq!(rows(&world).await[0]["validated"], false);
    // Once it comes, all is well.
    world.tell_altinn("faults", &json!({})).await;
    assert!(daemon.stop().await.success());
    let daemon = world.daemon().await;
    world.validated(1).await;
    assert!(daemon.stop().await.success());
}
