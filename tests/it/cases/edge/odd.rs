//! Events that break a rule of CloudEvents and come from Altinn all the same, and what is no event.

use std::fs;

use brevdue::{
    clock::Clock,
    metrics::Metrics,
    queue::{
        Failure, Queue, RawPush,
        sled::{DeadLetterBounds, Options, SledQueue},
    },
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{
    daemon::Daemon,
    eventually,
    receiver::Received,
    world::{QUICK_RETRY, World, event},
};

/// Each event also goes to a command and to a file.
const MORE: &str = r#"
[handlers.skript]
kind = "exec"
concurrency = 1
command = ["/bin/sh", "-c", "cat >>skript.jsonl; echo >>skript.jsonl"]

[handlers.kopi]
kind = "file"
path = "kopi.jsonl"
"#;

/// An event of Altinn's with this member, in its own place or in that of another.
fn with(id: &str, member: &str) -> String {
    let name = member.split(':').next().unwrap().trim_matches('"');
    let good: serde_json::Map<String, Value> = serde_json::from_str(&event(id)).unwrap();
    let rest = good.iter().filter(|(other, _)| *other != name);
    let rest: Vec<_> =
        rest.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    format!("{{{},{member}}}", rest.join(","))
}

async fn post(world: &World, body: &str) {
    let answer = world.push("innboks", body.to_owned()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{body}");
}

fn letters(daemon: &Daemon) -> Vec<Value> {
    let listed = daemon.command(&["dead-letters", "list", "--json"]);
    serde_json::from_slice(&listed.stdout).unwrap()
}

/// What Altinn's library lets through reaches every handler byte for byte, once.
async fn reach_every_handler(bodies: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("skript.jsonl");
    let more = MORE.replace("skript.jsonl", script.to_str().unwrap());
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    let daemon = world.daemon().await;
    for body in bodies.iter().chain(bodies) {
        post(&world, body).await;
    }
    let mut got: Vec<_> =
        world.receiver.wait_for(bodies.len()).await.into_iter().map(|one| one.body).collect();
    let mut expected = bodies.to_vec();
    got.sort();
    expected.sort();
    assert_eq!(got, expected, "byte for byte, each once");
    for path in [script, world.folder.path().join("kopi.jsonl")] {
        let mut lines = eventually("all lines of a handler", || async {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            (lines.len() >= bodies.len()).then_some(lines)
        })
        .await;
        lines.sort();
        assert_eq!(lines, expected, "{}", path.display());
    }
    assert_eq!(letters(&daemon), Vec::<Value>::new());
    let odd = format!("brevdue_events_odd_total{{hook=\"innboks\"}} {}", bodies.len());
    let page = daemon.metrics().await;
    assert!(page.contains(&odd), "{page}");
    let log = daemon.stopped().await;
    assert_eq!(log.matches("breaks a rule of CloudEvents").count(), bodies.len(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_no_uri_reaches_every_handler() {
    let sources = ["https://a.no/a b", "https://a.no/{id}", "urn:x|y", "C:\\x", "https://a.no/%zz"];
    let bodies: Vec<_> = sources
        .iter()
        .enumerate()
        .map(|(n, source)| with(&n.to_string(), &format!("\"source\":{}", Value::from(*source))))
        .collect();
    reach_every_handler(&bodies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_is_odd_reaches_every_handler() {
    let long = format!("\"vedlegg\":\"{}\"", "x".repeat(40_000));
    let members = [
        r#""specversion":"1.1""#,
        r#""time":"20. august 2026 kl. 10""#,
        r#""time":{"at":[1]}"#,
        r#""dataschema":"//[::1""#,
        r#""datacontenttype":"text/plain","data":{"a":1e999}"#,
        r#""data_base64":"ikke base64!""#,
        r#""data":[1],"data_base64":"AAE=""#,
        r#""ekstra":"1","ekstra":"2""#,
        r#""Store Bokstaver":"\ud800","n":1.50"#,
        r#""nul":"a\u0000b\u001b[2J\n""#,
        r#""subject":7"#,
    ];
    let mut bodies: Vec<_> =
        members.iter().enumerate().map(|(n, member)| with(&n.to_string(), member)).collect();
    bodies.push(with("long", &format!("{long},\"X\":1")));
    bodies.push(with("x", "\"id\":\"\\u0000\\u0085\""));
    reach_every_handler(&bodies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_one_letter_however_often_it_comes_and_wherever_from() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let broken = with("1", "\"source\":\"\"");
    for body in [&broken, "{\"id\":", &broken, "{\"id\":", &broken] {
        post(&world, body).await;
    }
    let ids = |daemon: &Daemon| {
        letters(daemon).iter().map(|letter| letter["id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&daemon), ["\"raw:1\"", "\"raw:2\""]);
    // It still cannot be read: that is told, and it stays.
    let again = daemon.command(&["dead-letters", "retry", "raw:1"]);
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && told.contains("source is empty"), "{told}");
    daemon.kill();
    let daemon = world.daemon().await;
    post(&world, &broken).await;
    assert_eq!(ids(&daemon), ["\"raw:1\"", "\"raw:2\""]);
    assert!(daemon.command(&["dead-letters", "discard", "raw:1"]).status.success());
    post(&world, &broken).await;
    assert_eq!(ids(&daemon), ["\"raw:2\"", "\"raw:3\""]);
    assert!(daemon.stop().await.success());
}

/// What an earlier version could not read.
async fn bury(world: &World, body: &str) {
    let options = Options {
        directory: world.folder.path().join("data/queue"),
        max_bytes: 1 << 30,
        min_free_disk: 0,
        dedup_window: std::time::Duration::from_secs(3600),
        dedup_max: 1000,
        retain: std::time::Duration::ZERO,
        dead_letters: DeadLetterBounds {
            max: 100,
            bytes: 1 << 30,
            age: std::time::Duration::from_secs(3600),
        },
        handlers: vec![("arkiv".parse().unwrap(), brevdue::queue::StartAt::Now)],
    };
    fs::create_dir_all(world.folder.path().join("data")).unwrap();
    let open = || SledQueue::open(options, Clock::System, Metrics::default());
    let queue = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
    let push = RawPush {
        hook: "innboks".parse().unwrap(),
        media_type: "application/json; charset=utf-8".to_owned(),
        body: body.to_owned().into(),
    };
    let reason = "source is not a URI reference".to_owned();
    queue.bury_raw(push, Failure { reason, answer: None }).await.unwrap();
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_can_be_read_by_now_is_retried() {
    let world = World::new().await;
    let odd = with("kept", r#""source":"https://a.no/{id}""#);
    bury(&world, &odd).await;
    let daemon = world.daemon().await;
    assert_eq!(letters(&daemon).len(), 1);
    let again = daemon.command(&["dead-letters", "retry", "raw:1"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let received = world.receiver.wait_for(1).await;
    assert_eq!(received.iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), [&odd]);
    assert_eq!(letters(&daemon), Vec::<Value>::new());
    // It is the event that a push would have been.
    post(&world, &odd).await;
    post(&world, &event("last")).await;
    let ids: Vec<_> = world.receiver.wait_for(2).await.iter().map(Received::id).collect();
    assert_eq!(ids, ["kept", "last"]);
    assert!(daemon.stop().await.success());
}
