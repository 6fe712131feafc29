//! `brevdue demo` leaves nothing behind, and takes nothing from around it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{daemon::BINARY, eventually};

/// A demo whose temporary folder is in this one.
fn demo(folder: &TempDir) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("demo").env("TMPDIR", folder.path()).stderr(Stdio::piped());
    command
}

/// Processes that have this folder in their arguments.
fn processes(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let arguments = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    arguments.filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
}

fn assert_nothing_is_left(folder: &TempDir) {
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes(folder.path()), 0, "a process is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_uses_no_variable_of_its_surroundings() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = other.path().join("data");
    let mut command = demo(&folder);
    command
        .args(["--events", "3"])
        .env("BREVDUE__DATA_DIR", &data)
        .env("BREVDUE__QUEUE__MAX_BYTES", "nonsense")
        .env("BREVDUE_CONFIG", "/nowhere");
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
        command.env(proxy, "http://127.0.0.1:9");
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(!data.exists(), "its events went into another store");
    assert_nothing_is_left(&folder);
}

/// Waits for a line of the story with these words.
fn read_until(child: &mut Child, words: &str) {
    let story = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(story.lines().any(|line| line.unwrap().contains(words)), "no {words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_ends_all_of_it_and_removes_its_keys() {
    for (words, signal, good) in [
        ("running until", Signal::TERM, true),
        ("running until", Signal::HUP, true),
        ("running until", Signal::INT, true),
        // The daemon runs, and the demo is in the middle of it.
        ("brevdue.toml in", Signal::TERM, false),
        ("brevdue is ready", Signal::HUP, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = demo(&folder);
        let arguments = ["--events", if good { "1" } else { "100000" }, "--keep-running"];
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        read_until(&mut child, words);
        assert!(fs::read_dir(folder.path()).unwrap().next().is_some(), "it is elsewhere");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let ended = eventually("its end", || std::future::ready(child.try_wait().unwrap())).await;
        assert_eq!(ended.success(), good, "{signal:?} after {words:?}");
        assert_nothing_is_left(&folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_killed_takes_its_daemon_with_it_and_shows_nobody_its_keys() {
    for words in ["brevdue.toml in", "brevdue is ready", "running until"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = demo(&folder);
        let arguments = ["--events", "3", "--keep-running"];
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        read_until(&mut child, words);
        let left = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(left.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the end of its daemon", || {
            std::future::ready((processes(folder.path()) == 0).then_some(()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_that_nobody_reads_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = demo(&folder).stdout(writer).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.as_str()), (Some(0), ""));
    assert_nothing_is_left(&folder);
}
