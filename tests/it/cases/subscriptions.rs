//! Registering with Altinn: what is created, what comes back, what is left alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{ORG, QUICK_RETRY, RESOURCE, World},
};

/// A second subscription, without the first one's subject.
const SECOND: &str = r#"
[subscriptions.publisert]
resource = "nabovarsel"
subject = "314249879"
type = "no.altinn.correspondence.correspondencepublished"
"#;

async fn counts(world: &World, name: &str) -> u64 {
    world.altinn("requests").await[name].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_creates_and_validates_each_subscription_and_a_second_creates_none() {
    let world = World::with(|_| {}, QUICK_RETRY, SECOND).await;
    let daemon = world.daemon().await;
    let rows = world.validated(2).await;
    assert_eq!(counts(&world, "subscriptions_created").await, 2);
    assert!(rows.iter().all(|row| row["resourceFilter"] == RESOURCE), "{rows:?}");
    assert!(daemon.stop().await.success());
    // Never deleted on shutdown: events keep coming while brevdue restarts.
    world.validated(2).await;

    let lists = counts(&world, "subscription_lists").await;
    let daemon = world.daemon().await;
    eventually("a look at Altinn by the second start", || async {
        let status = daemon.get("/v1/subscriptions").await;
        let rows: Vec<Value> = serde_json::from_value(status).expect("rows");
        rows.iter().all(|row| row["state"] == "validated").then_some(())
    })
    .await;
    assert!(counts(&world, "subscription_lists").await > lists);
    assert_eq!(counts(&world, "subscriptions_created").await, 2);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_deleted_behind_its_back_comes_back_and_foreign_ones_stay() {
    let interval = "\n[altinn]\nreconcile_interval = \"1s\"\n";
    let world = World::new().await;
    let config = std::fs::read_to_string(&world.config).unwrap();
    let quick = config.replace("\n[altinn]\n", interval);
    assert_ne!(config, quick);
    std::fs::write(&world.config, quick).unwrap();
    let foreign = json!({
        "endPoint": "https://hooks.example.no/hooks/innboks",
        "resourceFilter": RESOURCE,
        "consumer": format!("/organisation/{ORG}"),
    });
    let foreign = world.tell_altinn("subscriptions", &foreign).await["id"].clone();

    let daemon = world.daemon().await;
    let first = world.validated(1).await[0]["id"].clone();
    assert!(world.delete_at_altinn(&format!("subscriptions/{first}")).await.status().is_success());
    let second = eventually("another subscription", || async {
        let rows = world.validated(1).await;
        let id = rows[0]["id"].clone();
        (id != first).then_some(id)
    })
    .await;
    assert_ne!(second, foreign);
    let rows: Vec<Value> = serde_json::from_value(world.altinn("subscriptions").await).unwrap();
    assert!(rows.iter().any(|row| row["id"] == foreign), "{rows:?}");
    assert_eq!(counts(&world, "subscription_deletes").await, 0);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_while_it_runs_is_renewed() {
    let interval = "\n[altinn]\nreconcile_interval = \"500ms\"\n";
    let world = World::with(|options| options.lifetimes.altinn = 3, QUICK_RETRY, "").await;
    let config = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, config.replace("\n[altinn]\n", interval)).unwrap();
    let daemon = world.daemon().await;
    world.validated(1).await;
    // By its lifetime …
    eventually("three tokens", || async {
        (counts(&world, "altinn_tokens_issued").await >= 3).then_some(())
    })
    .await;
    // … and when Altinn no longer takes it before that.
    let refused = counts(&world, "unauthorized").await;
    world.tell_altinn("faults", &json!({ "expire_tokens": true })).await;
    eventually("a refused token", || async {
        (counts(&world, "unauthorized").await > refused).then_some(())
    })
    .await;
    let lists = counts(&world, "subscription_lists").await;
    eventually("more looks at Altinn", || async {
        (counts(&world, "subscription_lists").await > lists + 1).then_some(())
    })
    .await;
    let status = daemon.get("/v1/status").await;
    assert_eq!(status["state"], "ok", "{status}");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_published_at_altinn_arrive_once_each() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    world.tell_altinn("faults", &json!({ "push": "duplicate" })).await;
    let ids = world.publish(30).await;
    world.receiver.wait_for(ids.len()).await;
    eventually("both pushes of each", || async {
        let deliveries = world.altinn("deliveries").await;
        (deliveries.as_array().expect("deliveries").len() >= 60).then_some(())
    })
    .await;
    world.once_each(&ids).await;
    assert!(daemon.stop().await.success());
}

// The commands are waited for on this thread, while the stand-in answers them on another.
#[tokio::test(flavor = "multi_thread")]
async fn the_subscriptions_commands_show_plan_and_apply() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let json = |arguments: &[&str]| {
        let output = daemon.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(&world.secret("innboks")), "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let listed = json(&["subscriptions", "list", "--json"]);
    assert_eq!(listed[0]["name"], "innboks");
    assert_eq!(listed[0]["ours"], true);
    assert_eq!(json(&["subscriptions", "plan", "--json"])["subscriptions"][0]["action"], "none");
    world.delete_at_altinn("subscriptions").await;
    assert_eq!(json(&["subscriptions", "plan", "--json"])["subscriptions"][0]["action"], "create");
    json(&["subscriptions", "apply", "--json"]);
    tokio::time::timeout(Duration::from_secs(60), world.validated(1)).await.unwrap();
    let people = daemon.command(&["subscriptions", "list"]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("innboks"));
    assert!(daemon.stop().await.success());
}
