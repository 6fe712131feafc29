//! Standard output that nobody reads any more, or that has no room.

use std::{
    fs::File,
    io::pipe,
    process::{Command, Output},
};

use crate::support::{
    daemon::BINARY,
    world::{World, event},
};

/// Commands that need no daemon.
const ALONE: [&[&str]; 5] =
    [&["completions", "bash"], &["completions", "fish"], &["man"], &["--help"], &["--version"]];
/// Commands that ask one.
const ASKING: [&[&str]; 9] = [
    &["check"],
    &["status"],
    &["status", "--json"],
    &["events", "list"],
    &["events", "list", "--json"],
    &["dead-letters", "list", "--json"],
    &["handlers", "list", "--json"],
    &["subscriptions", "list", "--json"],
    &["doctor", "--json"],
];

fn run(world: &World, arguments: &[&str], stdout: impl Into<std::process::Stdio>) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(&world.config).args(arguments).stdout(stdout);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_left_ends_every_command_quietly() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    assert!(world.push("innboks", event("1")).send().await.unwrap().status().is_success());
    for arguments in ALONE.iter().chain(&ASKING) {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = run(&world, arguments, writer);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_without_room_is_a_failure_that_is_told() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    for arguments in ALONE.iter().chain(&ASKING) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = run(&world, arguments, full);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.starts_with("brevdue: ") && told.contains("os error 28"), "{told}");
        assert!(!told.contains("panicked"), "{told}");
    }
    assert!(daemon.stop().await.success());
}
