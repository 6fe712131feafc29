//! What an operator asks a running daemon, and what the documents promise.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use brevdue::config::Config;
use serde_json::Value;

use crate::support::{
    daemon::BINARY,
    eventually,
    world::{ORG, QUICK_RETRY, World, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn status_events_health_and_metrics_tell_what_is_going_on() {
    let retain = "[queue]\nretain = \"1h\"\n";
    let world = World::with(|_| {}, QUICK_RETRY, retain).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    world.push("innboks", event("one")).send().await.unwrap();
    world.push("innboks", event("two")).send().await.unwrap();
    world.receiver.wait_for(2).await;
    eventually("the subscription in the status", || async {
        let status = daemon.get("/v1/status").await;
        (status["state"] == "ok").then_some(())
    })
    .await;
    let run = |arguments: &[&str]| {
        let output = daemon.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let status: Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["log"]["events"], 2);
    assert_eq!(status["subscriptions"][0]["state"], "validated");
    assert!(status["subscriptions"][0]["last_push"].is_string(), "{status}");
    assert!(run(&["status"]).contains("arkiv"));
    assert_eq!(run(&["status", "--ready"]), "");

    let events: Vec<Value> = serde_json::from_str(&run(&["events", "list", "--json"])).unwrap();
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["one", "two"]);
    assert!(events[0]["subject"].as_str().unwrap().contains(ORG));
    let seq = events[1]["seq"].as_str().unwrap();
    assert_eq!(run(&["events", "show", seq]).trim_end(), event("two"), "byte for byte");
    assert_eq!(daemon.command(&["events", "show", "4711"]).status.code(), Some(1));
    assert!(run(&["events", "list", "--limit", "1"]).contains("two"));

    let page = daemon.metrics().await;
    for line in [
        "brevdue_events_stored_total{hook=\"innboks\"} 2",
        "brevdue_hook_answers_total{hook=\"innboks\",status=\"200\"}",
        "brevdue_delivery_attempts_total{handler=\"arkiv\",outcome=\"delivered\"} 2",
        "brevdue_store_writable 1",
        "brevdue_subscription_validated{hook=\"innboks\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains(ORG), "no organisation number in metrics");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_only_health_and_metrics_are_open_without_a_token() {
    let world = World::new().await;
    let config = fs::read_to_string(&world.config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!("[admin]\nlisten = \"{port}\"\ntoken_file = \"admin-token\"");
    fs::write(&world.config, config.replace("[admin]", &listen)).unwrap();
    fs::write(world.folder.path().join("admin-token"), "an-admin-token-of-some-length\n").unwrap();
    let daemon = world.daemon().await;
    let get = |path: &str| world.client.get(format!("http://{port}{path}"));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(path).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(get("/v1/status").send().await.unwrap().status(), 401);
    let wrong = get("/v1/status").bearer_auth("an-admin-token-of-some-lengtx");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    let right = get("/v1/status").bearer_auth("an-admin-token-of-some-length");
    assert_eq!(right.send().await.unwrap().status(), 200);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_no_handler_matches_are_counted_and_shown() {
    let world = World::with(|_| {}, "match = { type = [\"no.such.*\"] }", "").await;
    let daemon = world.daemon().await;
    world.push("innboks", event("nobody's")).send().await.unwrap();
    let status = daemon.get("/v1/status").await;
    assert_eq!(status["log"]["unmatched"]["count"], 1);
    let last = &status["log"]["unmatched"]["last_type"];
    assert_eq!(last, "no.altinn.correspondence.correspondencepublished");
    assert!(daemon.metrics().await.contains("brevdue_events_unmatched_total 1"));
    assert!(daemon.stop().await.success());
}

/// What stands in blocks of this kind in the README and the docs.
fn blocks(kind: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    documents.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut found = Vec::new();
    for document in documents.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(document).unwrap();
        for block in text.split(&format!("```{kind}\n")).skip(1) {
            let block = block.split("```").next().unwrap().to_owned();
            found.push((document.display().to_string(), block));
        }
    }
    assert!(!found.is_empty());
    found
}

/// Each is a whole configuration, or an addition to the minimal one.
#[test]
fn every_configuration_block_in_the_documents_is_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let minimal = fs::read_to_string(root.join("config/minimal.toml")).unwrap();
    for (document, block) in blocks("toml") {
        let addition = !block.contains("[server]");
        let whole = if addition { format!("{minimal}\n{block}") } else { block.clone() };
        if let Err(error) = Config::from_toml(&whole, root, &BTreeMap::new()) {
            panic!("{document}: {error}\n{block}");
        }
    }
}

// The commands are waited for on this thread, while the stand-in answers them on another.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_in_the_documents_works() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let mut commands = 0;
    for (document, block) in blocks("sh") {
        for line in block.lines().map(str::trim) {
            let Some(arguments) = line.strip_prefix("brevdue ") else { continue };
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            let output = daemon.command(&arguments);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{document}: {line}: {told}");
            commands += 1;
        }
    }
    assert!(commands >= 5, "only {commands} commands were found");
    assert!(daemon.stop().await.success());
}

#[test]
fn completions_and_the_manual_page_are_written() {
    for (arguments, word) in [(["completions", "bash"], "dead-letters"), (["man", ""], "brevdue")] {
        let arguments = arguments.iter().filter(|argument| !argument.is_empty());
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(word));
    }
}
