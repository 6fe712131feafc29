//! What the hook endpoint answers, and what it never lets through.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{
    daemon::Daemon,
    receiver::Received,
    timed,
    world::{QUICK_RETRY, World, event},
};

const SECOND: &str = r#"
[subscriptions.alt]
resource = "nabovarsel"
subject = "314249879"
type = "no.altinn.correspondence.correspondencepublished"

[handlers.kopi]
kind = "file"
path = "kopi.jsonl"
"#;

async fn stored(daemon: &Daemon) -> u64 {
    let page = daemon.metrics().await;
    let lines = page.lines().filter(|line| line.starts_with("brevdue_events_stored_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_stored_and_nothing_secret_is_logged() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let hook = world.hook("innboks");
    let secret = world.secret("innboks");
    let wrong = world.url("/hooks/innboks?code=wrong-secret-wrong-secret");
    let json = "application/json; charset=utf-8";
    let large = vec![b' '; 70 * 1024];
    let chunks: Vec<std::io::Result<Vec<u8>>> =
        large.chunks(4096).map(|chunk| Ok(chunk.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let post = |url: &str, media: &str, body: reqwest::Body| {
        world.client.post(url).header("content-type", media).body(body)
    };
    let with_national_id = event("x").replace("314249879", "01017012345");
    let unknown = world.url(&format!("/hooks/ukjent?code={secret}"));
    for (expected, request) in [
        (401, post(&wrong, json, with_national_id.clone().into())),
        (401, post(&world.url("/hooks/innboks"), json, event("x").into())),
        (404, post(&unknown, json, event("x").into())),
        (404, post(&world.url("/"), json, event("x").into())),
        (405, world.client.get(&hook)),
        (405, world.client.head(&hook)),
        (405, world.client.request(Method::OPTIONS, &hook)),
        (413, post(&hook, json, large.clone().into())),
        (413, post(&hook, json, chunked)),
        (415, post(&hook, "text/plain", with_national_id.clone().into())),
    ] {
        let refusal = request.send().await.unwrap();
        assert_eq!(refusal.status().as_u16(), expected);
        assert_eq!(refusal.headers().contains_key("allow"), expected == 405);
        assert_eq!(refusal.headers()["content-length"], "0", "{expected}");
        assert!(refusal.bytes().await.unwrap().is_empty());
    }
    assert_eq!(stored(&daemon).await, 0);

    // What is stored, what is a duplicate, and what cannot be read are all 200.
    let good = with_national_id.as_str();
    for body in [good, good, "{\"subject\":\"01017012345\"", "[]"] {
        let accepted = world.push("innboks", body.to_owned()).send().await.unwrap();
        assert_eq!(accepted.status(), StatusCode::OK, "{body}");
        assert_eq!(accepted.headers()["content-length"], "0");
    }
    assert_eq!(stored(&daemon).await, 1);
    world.receiver.wait_for(1).await;
    let letters = daemon.command(&["dead-letters", "list", "--json"]);
    let letters: Vec<Value> = serde_json::from_slice(&letters.stdout).unwrap();
    assert!(letters.iter().any(|letter| letter["raw"]["hook"] == "innboks"), "{letters:?}");
    world.validated(1).await;
    let log = daemon.stopped().await;

    let key = std::fs::read_to_string(world.folder.path().join("maskinporten.pem")).unwrap();
    let key_line = key.lines().nth(3).unwrap();
    for never in [secret.as_str(), "01017012345", "wrong-secret", key_line, "eyJ", "code="] {
        assert!(!log.contains(never), "the log contains {never}");
    }
    assert!(log.contains("\"x\""), "the event's id is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_fifty_times_at_once_by_two_hooks_is_stored_and_delivered_once() {
    let world = World::with(|_| {}, QUICK_RETRY, SECOND).await;
    let daemon = world.daemon().await;
    let one = event("same");
    let posts = (0..50).map(|n| {
        let hook = if n % 2 == 0 { "innboks" } else { "alt" };
        world.push(hook, one.clone()).send()
    });
    for answer in join_all(posts).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(stored(&daemon).await, 1);
    world.push("innboks", event("last")).send().await.unwrap();
    world.once_each(&["same", "last"]).await;
    assert!(daemon.stop().await.success());
    let copy = std::fs::read_to_string(world.folder.path().join("kopi.jsonl")).unwrap();
    assert_eq!(copy.lines().filter(|line| line.contains("\"same\"")).count(), 1, "{copy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_do_not_delay_a_good_event() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let mut silent = Vec::new();
    for count in [1, 300] {
        while silent.len() < count {
            silent.push(TcpStream::connect(world.listen).await.unwrap());
        }
        // A client of its own, so that this connection, too, is made behind the silent ones.
        let (answer, took) = timed(world.push("innboks", event(&count.to_string())).send()).await;
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
        assert!(took < Duration::from_secs(1), "{took:?} behind {count} silent clients");
    }
    world.receiver.wait_for(2).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_mode_and_batches_are_read_too() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let binary = world
        .client
        .post(world.hook("innboks"))
        .header("ce-specversion", "1.0")
        .header("ce-id", "binary")
        .header("ce-source", "/a")
        .header("ce-type", "no.altinn.test")
        .header("content-type", "application/json")
        .body(r#"{"a":1}"#);
    assert_eq!(binary.send().await.unwrap().status(), StatusCode::OK);
    let batch = format!("[{},{}]", event("first"), event("second"));
    assert_eq!(world.push("innboks", batch).send().await.unwrap().status(), StatusCode::OK);
    let received = world.receiver.wait_for(3).await;
    let mut ids: Vec<_> = received.iter().map(Received::id).collect();
    ids.sort();
    assert_eq!(ids, ["binary", "first", "second"]);
    let first = received.iter().find(|one| one.id() == "first").unwrap();
    assert_eq!(first.body, event("first"), "byte for byte");
    assert!(daemon.stop().await.success());
}
