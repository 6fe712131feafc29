//! Standard output that nobody reads any more, or that has no room.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, pipe},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Output, Stdio},
};

use crate::support::{
    daemon::BINARY,
    eventually,
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

fn run(world: &World, arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
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

/// Commands that fail where the daemon is not to be reached from outside, and has no such letters or handler.
const FAILING: [&[&str]; 5] = [
    &["doctor"],
    &["doctor", "--json"],
    &["dead-letters", "retry", "raw:7", "arkiv:9"],
    &["dead-letters", "discard", "raw:7"],
    &["dead-letters", "retry", "--handler", "ukjent"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_left_makes_no_failure_a_success() {
    let world = World::new().await;
    // Nothing validates, and nobody answers at the public URL.
    let url = world.url("");
    world.edit(&format!("public_url = \"{url}\""), "public_url = \"https://localhost:1\"");
    let daemon = world.daemon().await;
    for arguments in FAILING {
        let read = run(&world, arguments, Stdio::piped());
        let told = String::from_utf8_lossy(&read.stderr).into_owned();
        assert_eq!(read.status.code(), Some(1), "{arguments:?}: {told}");
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let unread = run(&world, arguments, writer);
        let told = String::from_utf8_lossy(&unread.stderr).into_owned();
        assert_eq!(unread.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("brevdue: ") && !told.contains("pipe"), "{told}");
        // As `head -1` does it: the reader leaves in the middle.
        let (reader, writer) = pipe().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&world.config).args(arguments).stdout(writer);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{arguments:?}");
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_error_that_nobody_reads_changes_no_result() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    assert!(world.push("innboks", "no event").send().await.unwrap().status().is_success());
    // A warning of `check`.
    let key = world.folder.path().join("maskinporten.pem");
    fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    for (arguments, code, words) in [
        (&["check"][..], 0, "is good"),
        (&["dead-letters", "discard", "raw:7", "raw:1", "raw:8"], 1, "1 discarded"),
        (&["dead-letters", "retry", "--handler", "arkiv"], 0, "0 retried"),
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&world.config).args(arguments).stderr(writer);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    let letters = daemon.command(&["dead-letters", "list", "--json"]).stdout;
    assert_eq!(String::from_utf8(letters).unwrap(), "[]\n", "it went on after the first");
    assert!(daemon.stop().await.success());
}

/// Ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_something_for_ever_ends_when_nobody_reads_it() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = folder.path().join("simulator").display().to_string();
    for arguments in [
        &["status", "--watch"][..],
        &["status", "--watch", "--json"],
        &["simulator", "--listen", "127.0.0.1:0", "--dir", &workspace],
        &["demo", "--events", "1", "--keep-running"],
    ] {
        let (reader, writer) = pipe().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&world.config).args(arguments).stdout(writer);
        let command = command.env("TMPDIR", folder.path()).stderr(Stdio::null());
        let mut shows = Running(command.spawn().unwrap());
        command.stdout(Stdio::null());
        let mut lines = BufReader::new(reader).lines();
        let last = if arguments[0] == "demo" { "running until" } else { "" };
        assert!(lines.any(|line| line.unwrap().contains(last)), "{arguments:?}");
        drop(lines);
        let ended = eventually("its end", || std::future::ready(shows.0.try_wait().unwrap())).await;
        assert_eq!(ended.code(), Some(0), "{arguments:?}");
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
