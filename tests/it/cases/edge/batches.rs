//! Batches with members that are no events: at Altinn's hooks the others are stored all the same, at
//! strict sources nothing is.

use serde_json::Value;

use crate::support::{
    daemon::Daemon,
    receiver::Received,
    world::{QUICK_RETRY, World, event},
};

const OTHER: &str = "[sources.other]\nauth = { bearer_file = \"token\" }\n";
const BATCH: &str = "application/cloudevents-batch+json";

async fn world() -> World {
    let world = World::with(|_| {}, QUICK_RETRY, OTHER).await;
    std::fs::write(world.folder.path().join("token"), "token-of-the-other-1").unwrap();
    world
}

async fn send(world: &World, body: impl Into<reqwest::Body>) -> u16 {
    let request = world.client.post(world.hook("innboks")).header("content-type", BATCH);
    request.body(body).send().await.unwrap().status().as_u16()
}

/// The raw letters' bodies and reasons, by the bodies.
async fn letters(daemon: &Daemon) -> Vec<(String, String)> {
    let listed = daemon.command(&["dead-letters", "list", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let mut letters = Vec::new();
    for letter in listed {
        let id = letter["id"].as_str().unwrap();
        let shown = daemon.get(&format!("/v1/dead-letters/{id}")).await;
        let body = shown["raw"]["body"].as_str().unwrap_or_default().to_owned();
        letters.push((body, letter["reason"].as_str().unwrap().to_owned()));
    }
    letters.sort();
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn good_members_are_delivered_and_bad_ones_are_letters_of_their_own() {
    let world = world().await;
    let daemon = world.daemon().await;
    let deep = format!("{{\"data\":{}1{}}}", "[".repeat(150), "]".repeat(150));
    let bad = ["{\"id\":\"x\"}", "null", "7", "\"text\"", "[]", &deep];
    let batch = format!(
        "[{},{},{},{},{},\n {} , {},{},{}]",
        event("1"),
        bad[0],
        bad[1],
        event("2"),
        bad[2],
        bad[3],
        bad[4],
        bad[5],
        event("3")
    );
    // However often it comes.
    for _ in 0..2 {
        assert_eq!(send(&world, batch.clone()).await, 200);
    }
    let mut ids: Vec<_> = world.receiver.wait_for(3).await.iter().map(Received::id).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"]);
    let kept = letters(&daemon).await;
    assert_eq!(kept.len(), bad.len(), "{kept:?}");
    assert!(kept.iter().all(|(_, reason)| reason.contains("of the batch: ")), "{kept:?}");
    // It survives an end without a farewell.
    daemon.kill();
    let daemon = world.daemon().await;
    assert_eq!(send(&world, batch).await, 200);
    assert_eq!(letters(&daemon).await.len(), bad.len());
    let page = daemon.metrics().await;
    assert!(page.contains("brevdue_events_duplicate_total{hook=\"innboks\"} 3"), "{page}");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_no_utf8_and_a_batch_that_cannot_be_taken_apart() {
    let world = world().await;
    let daemon = world.daemon().await;
    let good = event("1");
    let batch = [b"[{\"id\":\"\xff\xc3\"},", good.as_bytes(), b"]"].concat();
    assert_eq!(send(&world, batch).await, 200);
    assert_eq!(world.receiver.wait_for(1).await[0].body, good);
    // Where its members end is not known: it is kept whole.
    assert_eq!(send(&world, format!("[{},{{\"id\":}},{}]", event("2"), event("3"))).await, 200);
    let kept = letters(&daemon).await;
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().any(|(_, reason)| reason.starts_with("the body is not JSON")), "{kept:?}");
    assert!(kept.iter().any(|(_, why)| why == "event 0 of the batch: the body is not UTF-8"));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_strict_source_a_bad_member_is_named_and_nothing_is_stored() {
    let world = world().await;
    let daemon = world.daemon().await;
    let post = |body: String| {
        let request = world.client.post(world.url("/hooks/other"));
        request.bearer_auth("token-of-the-other-1").header("content-type", BATCH).body(body).send()
    };
    let answer = post(format!("[{},{{\"id\":\"x\"}}]", event("1"))).await.unwrap();
    assert_eq!(answer.status(), 400);
    let told = answer.text().await.unwrap();
    assert_eq!(told, "event 1 of the batch: specversion is missing");
    assert_eq!(post(format!("[{}]", event("2"))).await.unwrap().status(), 200);
    assert_eq!(world.receiver.wait_for(1).await[0].id(), "2");
    assert!(letters(&daemon).await.is_empty());
    assert!(daemon.stop().await.success());
}
