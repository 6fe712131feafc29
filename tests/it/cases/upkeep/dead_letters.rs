//! Many dead letters at once, and what an identifier may do.

use std::process::Output;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::support::{
    daemon::Daemon,
    eventually,
    world::{World, event},
};

/// A handler that refuses everything for ever.
const REFUSES: &str =
    "[handlers.skript]\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 65\"]\n";
/// More than one step of the daemon's.
const MANY: u64 = 1040;

async fn of_handler(daemon: &Daemon, name: &str) -> Value {
    let handlers = daemon.get("/v1/handlers").await;
    let found = handlers.as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap().clone()
}

async fn all_are_dead(daemon: &Daemon, count: u64) {
    eventually("dead letters", || async {
        let skript = of_handler(daemon, "skript").await;
        let settled = skript["pending"] == 0 && skript["retrying"] == 0;
        (settled && skript["dead_letters"] == count).then_some(())
    })
    .await;
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn retrying_all_of_a_handler_takes_each_letter_that_is_there_once() {
    let world = World::with(|_| {}, "", REFUSES).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    stream::iter(0..MANY)
        .for_each_concurrent(32, async |number| {
            let answer = world.push("innboks", event(&number.to_string())).send().await;
            assert_eq!(answer.unwrap().status(), 200);
        })
        .await;
    all_are_dead(&daemon, MANY).await;
    let retry = daemon.command(&["dead-letters", "retry", "--handler", "skript"]);
    let (code, out, progress) = told(&retry);
    assert_eq!((code, out), (Some(0), format!("{MANY} retried\n")), "{progress}");
    // How many a step takes is a matter of the machine.
    let steps = progress.lines().map(|line| {
        let (worked_off, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, format!("of {MANY} …"), "{progress}");
        worked_off.parse::<u64>().unwrap()
    });
    let steps: Vec<_> = steps.collect();
    assert!(!steps.is_empty() && steps.is_sorted_by(|a, b| a < b), "{progress}");
    all_are_dead(&daemon, MANY).await;
    let letters = daemon.get("/v1/dead-letters?handler=skript&limit=1000").await;
    let attempts = letters.as_array().unwrap().iter().map(|letter| letter["attempts"].as_u64());
    assert!(attempts.clone().all(|attempts| attempts == Some(2)), "{:?}", attempts.max());

    let discard = daemon.command(&["dead-letters", "discard", "--handler", "skript"]);
    assert_eq!(told(&discard).1, format!("{MANY} discarded\n"));
    all_are_dead(&daemon, 0).await;
    // One without letters, and one that there is not.
    let none = daemon.command(&["dead-letters", "retry", "--handler", "skript"]);
    assert_eq!(told(&none), (Some(0), "0 retried\n".to_owned(), String::new()));
    let unknown = daemon.command(&["dead-letters", "retry", "--handler", "nobody"]);
    assert_eq!(told(&unknown).0, Some(1));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_is_an_identifier_whatever_stands_in_it() {
    let world = World::with(|_| {}, "", REFUSES).await;
    let daemon = world.daemon().await;
    world.push("innboks", event("one")).send().await.unwrap();
    all_are_dead(&daemon, 1).await;
    let letters = daemon.get("/v1/dead-letters?handler=skript").await;
    let real = letters[0]["id"].as_str().unwrap();
    let (encoded, twice) = (real.replace(':', "%3A"), real.replace(':', "%253A"));
    for id in [
        encoded.as_str(),
        &twice,
        "../handlers/arkiv/pause?x=",
        "../handlers/arkiv/pause#",
        "../handlers/arkiv/pause?x=%2F",
        "%2e%2e/handlers/arkiv/pause?",
        "..\\handlers\\arkiv\\pause?",
        "..",
        ".",
        "%2e%2e",
        "skript:1/../../handlers/arkiv/pause?",
        "skript:1?x",
        "",
        "/",
        "//handlers/arkiv/pause",
        "skript:1\n",
    ] {
        for action in ["retry", "discard", "show"] {
            let (code, out, why) = told(&daemon.command(&["dead-letters", action, id]));
            assert_eq!(code, Some(1), "{action} {id}: {out} {why}");
            assert!(!why.contains("not what was expected"), "{action} {id}: {why}");
            let is_none = matches!(id, "" | "." | "..");
            assert_eq!(why.contains("names nothing"), is_none, "{action} {id}: {why}");
        }
        for name in ["arkiv", "skript"] {
            assert_eq!(of_handler(&daemon, name).await["paused"], false, "{id}");
        }
        all_are_dead(&daemon, 1).await;
        let (code, ..) = told(&daemon.command(&["dead-letters", "retry", "--handler", id]));
        assert_eq!(code, Some(1), "{id}");
    }
    assert!(daemon.stop().await.success());
}
