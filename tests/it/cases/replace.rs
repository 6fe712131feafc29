//! Replacing a subscription whose filters have changed, killed at every step; and what is under our
//! public URL without being wanted.

use serde_json::{Value, json};

use crate::support::{
    eventually,
    steps::{self, QUICK, STEPS},
    world::{ORG, QUICK_RETRY, RESOURCE, World},
};

const TYPE: &str = "no.altinn.correspondence.correspondencepublished";

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_replacement_nothing_is_lost_or_doubled_and_one_is_left() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let daemon = world.daemon().await;
    let mut old = world.validated(1).await[0]["id"].clone();
    assert!(daemon.stop().await.success());
    for (round, step) in STEPS.into_iter().enumerate() {
        // Every second round the type filter comes, and goes again in the next.
        let filter = format!("\ntype = \"{TYPE}\"\n");
        let (from, to) =
            if round % 2 == 0 { ("\n", filter.as_str()) } else { (filter.as_str(), "\n") };
        let subject = format!("subject = \"{ORG}\"");
        world.edit(&format!("{subject}{from}"), &format!("{subject}{to}"));
        let daemon = steps::until_killed(&world, step).await;
        let left = steps::one_is_left(&world, &old).await;
        assert_eq!(left.get("typeFilter").is_some(), round % 2 == 0, "{step:?}: {left}");
        old = left["id"].clone();
        steps::each_came_once(&world, step).await;
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_of_a_race_become_one_and_what_is_not_ours_to_remove_stays() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let daemon = world.daemon().await;
    let first = world.validated(1).await[0].clone();
    assert!(daemon.stop().await.success());

    let put = |change: Value| {
        let mut row = first.clone();
        for (name, value) in change.as_object().unwrap() {
            row[name] = value.clone();
        }
        row
    };
    let drifted = world.url("/hooks/borte?code=made-by-another-store-1");
    let foreign = "https://hooks.example.no/hooks/innboks?code=x";
    let old_code = world.url("/hooks/innboks?code=lost-with-the-data-dir");
    for row in [
        put(json!({})),
        put(json!({ "validated": false })),
        put(json!({ "endPoint": drifted })),
        put(json!({ "endPoint": foreign })),
        put(json!({ "endPoint": old_code })),
    ] {
        world.tell_altinn("subscriptions", &row).await;
    }
    let daemon = world.daemon().await;
    let rows = eventually("three rows", || async {
        let rows = steps::rows(&world).await;
        (rows.len() == 3).then_some(rows)
    })
    .await;
    assert_eq!(rows[0]["id"], first["id"]);
    assert_eq!((&rows[1]["endPoint"], &rows[2]["endPoint"]), (&json!(drifted), &json!(foreign)));
    let requests = world.altinn("requests").await;
    assert_eq!(requests["subscriptions_created"], 1, "{requests}");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leaves_the_configuration_is_removed_and_its_hook_answers_on() {
    let second = format!("[subscriptions.alt]\nresource = \"{RESOURCE}\"\nsubject = \"{ORG}\"\n");
    let world = World::with(steps::fast, QUICK_RETRY, &second).await;
    world.altinn_settings(QUICK);
    let daemon = world.daemon().await;
    world.validated(2).await;
    let hook = world.hook("alt");
    assert!(daemon.stop().await.success());
    world.edit(&second, "");
    let daemon = world.daemon().await;
    let rows = world.validated(1).await;
    assert!(rows[0]["endPoint"].as_str().unwrap().contains("/hooks/innboks?"), "{rows:?}");
    for (url, status) in [(hook.clone(), 200), (world.url("/hooks/alt?code=wrong"), 401)] {
        let push = world.client.post(url).header("content-type", "application/json");
        let answer = push.body(crate::support::world::event("late")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
    }
    world.once_each(&["late"]).await;
    assert!(daemon.stop().await.success());
    // Also after another start.
    let daemon = world.daemon().await;
    let push = world.client.post(hook).header("content-type", "application/json");
    let answer = push.body(crate::support::world::event("later")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_of_altinn_before_our_public_url_leads_to_us() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let port = world.listen.port();
    let elsewhere = world.simulator.address.port();
    let url = |port: u16| format!("public_url = \"https://localhost:{port}\"");
    world.edit(&url(port), &url(elsewhere));
    let daemon = world.daemon().await;
    eventually("the failure in the status", || async {
        let status = daemon.get("/v1/subscriptions").await;
        let error = status[0]["last_error"].as_str()?.to_owned();
        error.contains("another server").then_some(())
    })
    .await;
    let requests = world.altinn("requests").await;
    assert_eq!(requests["subscription_posts"], 0, "{requests}");
    assert!(daemon.stop().await.success());
    world.altinn_settings("self_proof = false\n");
    let daemon = world.daemon().await;
    eventually("a post without a proof", || async {
        let requests = world.altinn("requests").await;
        (requests["subscription_posts"].as_u64()? > 0).then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}
