//! From the log to the handler: again until it has it, or until it is given up.

use serde_json::Value;

use crate::support::{
    eventually,
    receiver::Behaviour,
    world::{QUICK_RETRY, World, event},
};

/// Hanging handlers are given up on soon.
const IMPATIENT: &str = "timeout = \"500ms\"\n\
    retry = { initial = \"20ms\", max = \"200ms\", factor = 2.0 }";

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_hangs_redirects_or_closes_gets_it_again_with_the_same_key() {
    let world = World::with(|_| {}, IMPATIENT, "").await;
    let daemon = world.daemon().await;
    let ways = [
        ("fails", Behaviour::Answer(500)),
        ("refuses", Behaviour::Answer(404)),
        ("redirects", Behaviour::Answer(302)),
        ("hangs", Behaviour::Hang),
        ("closes", Behaviour::Close),
    ];
    for (id, behaviour) in ways {
        world.receiver.behave_at_first(id, behaviour);
        let answer = world.push("innboks", event(id)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    for (id, _) in ways {
        let attempts = eventually(id, || async {
            Some(world.receiver.of(id)).filter(|attempts| attempts.len() == 2)
        })
        .await;
        let numbers: Vec<_> = attempts.iter().map(|one| one.header("brevdue-attempt")).collect();
        assert_eq!(numbers, ["1", "2"], "{id}");
        let key = attempts[0].header("idempotency-key");
        assert_eq!(key, attempts[1].header("idempotency-key"), "{id}");
        assert_eq!(attempts[0].body, event(id), "the stored bytes");
        assert_eq!(
            attempts[0].header("content-type"),
            "application/cloudevents+json; charset=utf-8"
        );
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_recovers_leaves_a_dead_letter_that_a_retry_delivers() {
    let give_up = r#"retry = { initial = "20ms", max = "50ms", give_up_after = "300ms" }"#;
    let world = World::with(|_| {}, give_up, "").await;
    let daemon = world.daemon().await;
    world.receiver.behave(Behaviour::Answer(503));
    world.push("innboks", event("lost")).send().await.unwrap();
    let letters = |daemon: &crate::support::daemon::Daemon| -> Vec<Value> {
        let output = daemon.command(&["dead-letters", "list", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let letter =
        eventually("a dead letter", || async { letters(&daemon).into_iter().next() }).await;
    let id = letter["id"].as_str().unwrap();
    assert!(id.starts_with("arkiv:"), "{id}");
    assert!(letter["reason"].as_str().unwrap().contains("503"), "{letter}");
    assert_eq!(letter["last_answer"], "what the handler said");
    let tried = letter["attempts"].as_u64().unwrap();
    assert!(tried > 1, "{tried}");

    let shown = daemon.command(&["dead-letters", "show", id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"lost\""));
    // It outlives the process.
    assert!(daemon.stop().await.success());
    let daemon = world.daemon().await;
    assert_eq!(letters(&daemon).len(), 1);

    world.receiver.behave(Behaviour::Answer(200));
    let before = world.receiver.of("lost").len();
    assert!(daemon.command(&["dead-letters", "retry", id]).status.success());
    let attempts = eventually("the retried delivery", || async {
        Some(world.receiver.of("lost")).filter(|attempts| attempts.len() > before)
    })
    .await;
    let last = attempts.last().unwrap();
    assert_eq!(last.header("brevdue-attempt"), (tried + 1).to_string());
    assert_eq!(last.header("idempotency-key"), attempts[0].header("idempotency-key"));
    eventually("no dead letter", || async { letters(&daemon).is_empty().then_some(()) }).await;
    let again = daemon.command(&["dead-letters", "retry", id]);
    assert_eq!(again.status.code(), Some(1), "it is no longer one");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_dead_letter_is_gone() {
    let give_up = r#"retry = { initial = "1ms", max = "1ms", give_up_after = "1ms" }"#;
    let world = World::with(|_| {}, give_up, "").await;
    let daemon = world.daemon().await;
    world.receiver.behave(Behaviour::Answer(503));
    world.push("innboks", event("one")).send().await.unwrap();
    world.push("innboks", event("two")).send().await.unwrap();
    eventually("dead letters", || async {
        let letters = daemon.get("/v1/dead-letters?handler=arkiv").await;
        (letters.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let output = daemon.command(&["dead-letters", "discard", "--handler", "arkiv"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 discarded\n");
    assert_eq!(daemon.get("/v1/dead-letters").await.as_array().unwrap().len(), 0);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_due_times_survive_a_restart() {
    // It is due four seconds later at the earliest, and a start takes less.
    let slow = r#"retry = { initial = "8s", max = "1h", factor = 2.0 }"#;
    let world = World::with(|_| {}, slow, "").await;
    let daemon = world.daemon().await;
    world.receiver.behave_at_first("patient", Behaviour::Answer(500));
    world.push("innboks", event("patient")).send().await.unwrap();
    world.receiver.wait_for(1).await;
    eventually("a waiting retry", || async {
        let status = daemon.get("/v1/status").await;
        (status["handlers"][0]["retrying"] == 1).then_some(())
    })
    .await;
    daemon.kill();
    let daemon = world.daemon().await;
    let attempts = world.receiver.wait_for(2).await;
    assert_eq!(attempts[1].header("brevdue-attempt"), "2");
    assert_eq!(attempts[0].header("idempotency-key"), attempts[1].header("idempotency-key"));
    let pause = attempts[1].at - attempts[0].at;
    assert!(pause >= std::time::Duration::from_secs(4), "after {pause:?}: not at its time");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_commands_and_files_and_only_those_that_match() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("note.sh");
    let notes = folder.path().join("notes");
    let text = format!("#!/bin/sh\necho \"$CE_ID $CE_TYPE\" >> {}\n", notes.display());
    std::fs::write(&script, text).unwrap();
    let handlers = format!(
        "[handlers.skript]\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"{}\"]\n\
         match = {{ type = [\"*published\"], from = [\"innboks\"] }}\n\
         [handlers.logg]\nkind = \"file\"\npath = \"events.jsonl\"\nmatch = {{ type = [\"no.such.*\"] }}\n",
        script.display()
    );
    let world = World::with(|_| {}, QUICK_RETRY, &handlers).await;
    let daemon = world.daemon().await;
    world.push("innboks", event("a")).send().await.unwrap();
    let other = event("b").replace("correspondencepublished", "other");
    world.push("innboks", other).send().await.unwrap();
    world.receiver.wait_for(2).await;
    eventually("the command's note", || async {
        let notes = std::fs::read_to_string(&notes).ok()?;
        (notes == "a no.altinn.correspondence.correspondencepublished\n").then_some(())
    })
    .await;
    eventually("everything settled", || async {
        let status = daemon.get("/v1/status").await;
        let handlers = status["handlers"].as_array()?.clone();
        handlers.iter().all(|handler| handler["pending"] == 0).then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
    assert!(!world.folder.path().join("events.jsonl").exists(), "nothing matched it");
}
