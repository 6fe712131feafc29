//! A limit of open files that is lower than anyone would set it.

use std::{process::Command, time::Duration};

use reqwest::StatusCode;

use crate::support::{
    daemon::{BINARY, Daemon},
    eventually, timed,
    world::{QUICK_RETRY, World, event},
};

/// Its commands want more descriptors at once than there are.
const MORE: &str = r#"
[handlers.skript]
kind = "exec"
concurrency = 32
command = ["/bin/sh", "-c", "cat >/dev/null; sleep 0.2"]
"#;

/// brevdue where no more files than these may be open, whoever asks for more.
fn limited(files: u32) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), BINARY]);
    command
}

fn start(world: &World, files: u32) -> Daemon {
    Daemon::spawn_with(limited(files), &world.config, world.folder.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_files_are_a_start_that_is_refused_with_numbers_and_cure() {
    let world = World::with(|_| {}, QUICK_RETRY, MORE).await;
    for files in [8, 12, 16, 20, 24, 32, 40, 48] {
        let before = std::fs::read_to_string(world.folder.path().join("brevdue.log"));
        let before = before.unwrap_or_default().len();
        let daemon = start(&world, files);
        let log = world.folder.path().join("brevdue.log");
        assert_eq!(daemon.ended().await.code(), Some(78), "{files}");
        let told = std::fs::read_to_string(log).unwrap().split_off(before);
        let limit = format!("the limit of open files is {files}, and ");
        assert!(told.contains(&limit) && told.contains("LimitNOFILE"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert!(!world.folder.path().join("data/queue").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_just_enough_files_every_push_is_answered_and_delivered() {
    for files in [56, 64, 128] {
        let world = World::with(|_| {}, QUICK_RETRY, MORE).await;
        let daemon = start(&world, files);
        daemon.ready().await;
        world.validated(1).await;
        for n in 0..20 {
            let push = world.push("innboks", event(&n.to_string()));
            let push = push.timeout(Duration::from_secs(20)).send();
            let (answer, took) = timed(push).await;
            assert_eq!(answer.unwrap().status(), StatusCode::OK, "{files}");
            assert!(took < Duration::from_secs(5), "{files}: {took:?}");
        }
        world.receiver.wait_for(20).await;
        eventually("all commands", || async {
            let status = daemon.get("/v1/status").await;
            let script = status["handlers"].as_array()?.iter().find(|one| one["name"] == "skript");
            let script = script?;
            let left = ["pending", "in_flight", "retrying"].map(|what| script[what].as_u64());
            (left.iter().flatten().sum::<u64>() == 0).then_some(())
        })
        .await;
        let log = daemon.stopped().await;
        assert!(log.contains("allows fewer connections or deliveries"), "{log}");
        assert!(!log.contains("os error 24"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_with_too_few_files_say_so() {
    let world = World::new().await;
    for (files, arguments) in [
        (6, &["status"][..]),
        (7, &["doctor"]),
        (8, &["subscriptions", "list"]),
        (12, &["dead-letters", "list"]),
        (16, &["events", "list"]),
        (32, &["demo"]),
    ] {
        let mut command = limited(files);
        let output = command.arg("--config").arg(&world.config).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {told}");
        assert!(told.starts_with("brevdue: the limit of open files is "), "{told}");
        assert!(told.contains("ulimit -n") && told.lines().count() == 1, "{told}");
    }
}
