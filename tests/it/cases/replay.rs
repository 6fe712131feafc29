//! Handlers as an operator handles them: what they had again, a pause, and the end of one.

use std::process::Output;

use serde_json::Value;

use crate::support::{
    eventually,
    world::{QUICK_RETRY, World, event},
};

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Its exit code, and what it said of it.
fn refused(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_gets_again_what_it_had_from_an_event_on() {
    let world = World::with(|_| {}, QUICK_RETRY, "[queue]\nretain = \"1h\"\n").await;
    let daemon = world.daemon().await;
    for id in ["one", "two"] {
        world.push("innboks", event(id)).send().await.unwrap();
    }
    world.receiver.wait_for(2).await;
    let events: Vec<Value> =
        serde_json::from_str(&told(&daemon.command(&["events", "list", "--json"]))).unwrap();
    let settled = || async {
        let status = daemon.get("/v1/status").await;
        (status["handlers"][0]["pending"] == 0).then_some(())
    };
    eventually("both settled", settled).await;

    let replay = |from: &str, more: &[&str]| {
        let arguments = ["events", "replay", "--handler", "arkiv", "--from", from];
        daemon.command(&[&arguments[..], more].concat())
    };
    let answer: Value = serde_json::from_str(&told(&replay("oldest", &["--json"]))).unwrap();
    assert_eq!(answer, serde_json::json!({ "handler": "arkiv", "events": 2 }));
    world.receiver.wait_for(4).await;
    eventually("both settled again", settled).await;
    let second = events[1]["seq"].as_str().unwrap();
    assert!(told(&replay(second, &[])).starts_with("1 event"));
    world.receiver.wait_for(5).await;
    eventually("one settled again", settled).await;
    let time = events[0]["received"].as_str().unwrap();
    assert!(told(&replay(time, &[])).starts_with("2 events"));
    let all = world.receiver.wait_for(7).await;
    let of = |id: &str| all.iter().filter(|one| one.id() == id).collect::<Vec<_>>();
    for (id, times) in [("one", 3), ("two", 4)] {
        let came = of(id);
        assert_eq!(came.len(), times, "{id}");
        for one in &came {
            assert_eq!(one.header("brevdue-attempt"), "1");
            assert_eq!(one.header("idempotency-key"), came[0].header("idempotency-key"));
        }
    }

    eventually("all settled", settled).await;
    let (code, words) = refused(&replay("4711", &[]));
    assert!(code == Some(1) && words.contains("not come so far"), "{words}");
    let (code, words) = refused(&replay("yesterday", &[]));
    assert!(code == Some(2) && words.contains("oldest"), "{words}");
    let unknown = ["events", "replay", "--handler", "nobody", "--from", "oldest"];
    assert_eq!(refused(&daemon.command(&unknown)).0, Some(1));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_handler_gets_nothing_until_it_is_resumed_over_a_restart() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    assert_eq!(told(&daemon.command(&["handlers", "pause", "arkiv"])), "arkiv paused\n");
    world.push("innboks", event("one")).send().await.unwrap();
    assert!(daemon.metrics().await.contains("brevdue_handler_paused{handler=\"arkiv\"} 1"));
    assert!(told(&daemon.command(&["status"])).contains("arkiv (paused)"));
    assert!(daemon.stop().await.success());
    let daemon = world.daemon().await;
    let list = told(&daemon.command(&["handlers", "list", "--json"]));
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["paused"]), (&"arkiv".into(), &true.into()));
    assert_eq!((&list[0]["pending"], &list[0]["in_flight"]), (&1.into(), &0.into()));
    assert!(world.receiver.received().is_empty());
    assert_eq!(told(&daemon.command(&["handlers", "resume", "arkiv"])), "arkiv resumed\n");
    assert_eq!(world.receiver.wait_for(1).await[0].id(), "one");
    assert!(daemon.metrics().await.contains("brevdue_handler_paused{handler=\"arkiv\"} 0"));
    assert_eq!(refused(&daemon.command(&["handlers", "pause", "nobody"])).0, Some(1));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_left_the_configuration_is_shown_and_can_be_forgotten() {
    let logg = "[handlers.logg]\nkind = \"file\"\npath = \"events.jsonl\"\n";
    let world = World::with(|_| {}, QUICK_RETRY, logg).await;
    let daemon = world.daemon().await;
    let (code, words) = refused(&daemon.command(&["handlers", "forget", "logg"]));
    assert!(code == Some(1) && words.contains("is configured"), "{words}");
    assert!(daemon.stop().await.success());
    world.edit(logg, "");
    let daemon = world.daemon().await;
    assert!(told(&daemon.command(&["handlers", "list"])).contains("logg (not configured)"));
    assert!(daemon.metrics().await.contains("handler_pending{handler=\"logg\"}"));
    assert_eq!(told(&daemon.command(&["handlers", "forget", "logg"])), "logg forgotten\n");
    assert!(!told(&daemon.command(&["handlers", "list"])).contains("logg"));
    assert!(!daemon.metrics().await.contains("handler=\"logg\""));
    assert_eq!(refused(&daemon.command(&["handlers", "forget", "logg"])).0, Some(1));
    assert!(daemon.stop().await.success());
}
