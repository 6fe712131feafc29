//! A new secret for a hook, killed at every step; and what Altinn's side sees of validation and of
//! answers that get lost.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    daemon::Daemon,
    eventually,
    steps::{self, QUICK, STEPS},
    world::{QUICK_RETRY, World, event},
};

fn rotate(daemon: &Daemon) -> String {
    let output = daemon.command(&["subscriptions", "rotate", "innboks"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_rotation_nothing_is_lost_or_doubled_and_one_is_left() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let daemon = world.daemon().await;
    let mut old = world.validated(1).await[0]["id"].clone();
    // The first step of all: the secret is written, and the daemon that is to know it is gone.
    assert!(daemon.stop().await.success());
    let first = world.secret("innboks");
    let output = world.command(&["subscriptions", "rotate", "innboks"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("No daemon answers"), "{said}");
    for step in STEPS {
        let secret = world.current_secret("innboks");
        let daemon = steps::until_killed(&world, step).await;
        let left = steps::one_is_left(&world, &old).await;
        assert!(left["endPoint"].as_str().unwrap().ends_with(&secret), "{step:?}: {left}");
        old = left["id"].clone();
        steps::each_came_once(&world, step).await;
        // What was pushed to the oldest hook and is still on its way.
        let late = world.client.post(world.url(&format!("/hooks/innboks?code={first}")));
        let late = late.header("content-type", "application/json").body(event("late"));
        assert_eq!(late.send().await.unwrap().status(), 200, "{step:?}");
        assert!(daemon.stop().await.success());
        let output = world.command(&["subscriptions", "rotate", "innboks"]);
        assert!(output.status.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_rotates_under_load_without_loss() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let daemon = world.daemon().await;
    let old = world.validated(1).await[0]["id"].clone();
    let before = world.current_secret("innboks");
    let mut ids = world.publish(20).await;
    assert!(rotate(&daemon).contains("The daemon subscribes"));
    assert_ne!(world.current_secret("innboks"), before);
    ids.extend(world.publish(20).await);
    eventually("both at once", || async {
        let rows = steps::rows(&world).await;
        (rows.len() == 2 && rows.iter().all(|row| row["validated"] == true)).then_some(())
    })
    .await;
    ids.extend(world.publish(20).await);
    steps::one_is_left(&world, &old).await;
    ids.extend(world.publish(20).await);
    world.receiver.wait_for(ids.len()).await;
    world.once_each(&ids).await;
    let log = daemon.stopped().await;
    assert!(!log.contains(&before) && !log.contains(&world.current_secret("innboks")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_operators_is_not_rotated_but_followed() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.altinn_settings(QUICK);
    let file = world.folder.path().join("innboks-secret");
    std::fs::write(&file, "first-secret-of-the-operator\n").unwrap();
    world.edit(
        "[subscriptions.innboks]\n",
        "[subscriptions.innboks]\nsecret_file = \"innboks-secret\"\n",
    );
    let daemon = world.daemon().await;
    let old = world.validated(1).await[0]["id"].clone();
    let output = daemon.command(&["subscriptions", "rotate", "innboks"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for words in ["subscriptions.innboks.secret_file", "innboks-secret", "SIGHUP"] {
        assert!(said.contains(words), "{said}");
    }
    for (arguments, key) in [
        (["subscriptions", "rotate", "ukjent"], "subscriptions.ukjent is not configured"),
        (["handlers", "pause", "ukjent"], "handlers.ukjent is not configured"),
    ] {
        let unknown = daemon.command(&arguments);
        assert_eq!(unknown.status.code(), Some(1));
        let said = String::from_utf8(unknown.stderr).unwrap();
        assert!(said.contains(key), "{said}");
    }
    std::fs::write(&file, "second-secret-of-the-operator\nfirst-secret-of-the-operator\n").unwrap();
    daemon.signal(Signal::HUP);
    let left = steps::one_is_left(&world, &old).await;
    assert!(left["endPoint"].as_str().unwrap().contains("second-secret"), "{left}");
    for code in ["first-secret-of-the-operator", "second-secret-of-the-operator"] {
        let push = world.client.post(world.url(&format!("/hooks/innboks?code={code}")));
        let push = push.header("content-type", "application/json").body(event(code));
        assert_eq!(push.send().await.unwrap().status(), 200);
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validation_is_answered_before_and_after_its_id_is_known_and_never_stored() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    world.tell_altinn("faults", &json!({ "events": "validate-first" })).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let validation = json!({
        "specversion": "1.0",
        "id": "694caa35-a5cd-4b0a-9b05-27b1c2b9b2d4",
        "source": "https://platform.altinn.no/events/api/v1/subscriptions/999999",
        "type": "platform.events.validatesubscription",
    });
    for _ in 0..3 {
        let answer = world.push("innboks", validation.to_string()).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-length"].as_bytes()),
            (200, b"0".as_slice())
        );
        assert_eq!(answer.text().await.unwrap(), "");
    }
    let events = daemon.command(&["events", "list", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&events.stdout).unwrap(), json!([]));
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_answer_is_lost_comes_again_and_is_delivered_once() {
    let world = World::with(steps::fast, QUICK_RETRY, "").await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    for fault in ["half-body", "disconnect", "read-timeout"] {
        world.tell_altinn("faults", &json!({ "push": fault })).await;
        let ids = world.publish(5).await;
        eventually("the second attempts", || async {
            let deliveries = world.altinn("deliveries").await;
            let done = |id: &String| {
                let all = deliveries.as_array().unwrap().iter();
                all.filter(|one| one["eventId"] == **id).any(|one| one["status"] == 200)
            };
            ids.iter().all(done).then_some(())
        })
        .await;
        world.once_each(&ids).await;
    }
    assert!(daemon.stop().await.success());
}
