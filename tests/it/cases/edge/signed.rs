//! Signed requests that someone sends again, changed wherever the signature does not reach.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use brevdue::clock::{Clock, Timestamp};
use serde_json::Value;

use crate::support::{
    daemon::Daemon,
    world::{QUICK_RETRY, World, event},
};

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SOURCE: &str = r#"
[sources.andre]
auth = { standard_webhooks_file = "whsec" }
"#;
const BINARY: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "2"), ("ce-source", "/forged"), ("ce-type", "forged")];

async fn world() -> World {
    let world = World::with(|_| {}, QUICK_RETRY, SOURCE).await;
    std::fs::write(world.folder.path().join("whsec"), format!("whsec_{KEY}\n")).unwrap();
    world
}

/// The headers that prove this body.
fn signed(body: &str) -> [(&'static str, String); 3] {
    let now = Clock::System.now().since(Timestamp::default()).as_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).unwrap());
    let tag = hmac::sign(&key, format!("msg.{now}.{body}").as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(tag));
    [
        ("webhook-id", "msg".to_owned()),
        ("webhook-timestamp", now.to_string()),
        ("webhook-signature", signature),
    ]
}

async fn send(world: &World, body: &str, media_type: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = world.client.post(world.url("/hooks/andre")).body(body.to_owned());
    for (name, value) in signed(body) {
        request = request.header(name, value);
    }
    request = request.header("content-type", media_type);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

/// The events that are in the log or came to the handler, by their ids and sources.
async fn kept(world: &World, daemon: &Daemon, last: &str) -> Vec<String> {
    assert_eq!(send(world, &event(last), "application/cloudevents+json", &[]).await, 200);
    let stored = daemon.metrics().await;
    let stored = stored.lines().find(|line| line.starts_with("brevdue_events_stored_total"));
    let count = stored.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let bodies = world.receiver.wait_for(count).await;
    let ids = bodies.iter().map(|one| {
        let event: Value = serde_json::from_str(&one.body).unwrap();
        format!("{} {}", event["id"], event["type"])
    });
    let mut ids: Vec<_> = ids.map(|id| id.replace('"', "")).collect();
    ids.sort();
    ids
}

const TYPE: &str = "no.altinn.correspondence.correspondencepublished";

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_no_other_event_with_other_headers() {
    let world = world().await;
    let daemon = world.daemon().await;
    let body = event("1");
    assert_eq!(send(&world, &body, "application/json", &[]).await, 200);
    // The same body, by the one who has seen it: as the data of an event of his own.
    for media_type in ["application/json", "application/vnd.x+json", "text/plain"] {
        assert_eq!(send(&world, &body, media_type, &BINARY).await, 415, "{media_type}");
        let one = [("ce-specversion", "1.0"), ("ce-subject", "someone else")];
        assert_eq!(send(&world, &body, media_type, &one).await, 415, "{media_type}");
    }
    assert_eq!(kept(&world, &daemon, "last").await, [format!("1 {TYPE}"), format!("last {TYPE}")]);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_body_is_what_it_says_itself_whatever_is_said_of_it() {
    let world = world().await;
    let daemon = world.daemon().await;
    let (one, batch) = (event("1"), format!("[{},{}]", event("2"), event("3")));
    let forged = [("CE-ID", "9"), ("Ce-Type", "forged"), ("ce-subject", "x"), ("traceparent", "x")];
    for (body, media_type) in [
        (&one, "application/cloudevents-batch+json"),
        (&one, "application/CloudEvents+JSON; charset=utf-8"),
        (&batch, "application/cloudevents+json"),
        (&batch, "application/json;charset=UTF-8"),
    ] {
        // Names without `ce-specversion` make no binary mode: they say nothing.
        assert_eq!(send(&world, body, media_type, &forged).await, 200, "{media_type}");
    }
    // Binary mode of its own, signed and all: its attributes are nobody's word.
    for data in ["", "7", "{\"a\":1}", "null"] {
        assert_eq!(send(&world, data, "application/json", &BINARY).await, 415, "{data}");
    }
    let expected = ["1", "2", "3", "last"].map(|id| format!("{id} {TYPE}"));
    assert_eq!(kept(&world, &daemon, "last").await, expected);
    assert!(daemon.stop().await.success());
}
