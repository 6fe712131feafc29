//! What is given to the process beside its configuration: sockets, and the variables of systemd and of the environment.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use super::desk::Desk;
use crate::support::{
    daemon::{BINARY, Daemon},
    eventually,
    world::World,
};

/// Runs with a descriptor in the place of the first that systemd passes.
fn run_with(desk: &Desk, passed: OwnedFd, number: &str) -> Output {
    let script = "export LISTEN_FDS=\"$2\"; exec \"$0\" --config \"$1\" run 3<&0";
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).arg(desk.path("brevdue.toml")).arg(number);
    command.stdin(Stdio::from(passed)).output().expect("it runs")
}

#[test]
fn a_descriptor_that_nobody_can_connect_to_is_named() {
    let local = || (Ipv4Addr::LOCALHOST, 0);
    let listener = TcpListener::bind(local()).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let passed: [OwnedFd; 6] = [
        File::open("/dev/null").unwrap().into(),
        File::open("/").unwrap().into(),
        UdpSocket::bind(local()).unwrap().into(),
        UnixDatagram::unbound().unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
        connected.into(),
    ];
    for (place, passed) in passed.into_iter().enumerate() {
        let desk = Desk::new();
        let output = run_with(&desk, passed, "1");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{place}: {told}");
        for words in ["LISTEN_FDS: descriptor 3 is no listening stream socket", "ListenStream="] {
            assert!(told.contains(words), "{place}: {told}");
        }
    }
    // The first is good, and there is no second; and numbers that are none.
    for (number, words) in [
        ("2", "descriptor 4 is no listening"),
        ("99999999999", "LISTEN_FDS: is no number from"),
        ("one", "LISTEN_FDS: is no number from"),
    ] {
        let desk = Desk::new();
        let output = run_with(&desk, listener.try_clone().unwrap().into(), number);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{number}: {told}");
        assert!(told.contains(words), "{number}: {told}");
    }
}

#[test]
fn an_address_from_the_environment_is_held_to_the_same() {
    let desk = Desk::new();
    desk.edit("127.0.0.1:0", "127.0.0.1:8443");
    for command in ["check", "run"] {
        let mut brevdue = Command::new(BINARY);
        brevdue.arg("--config").arg(desk.path("brevdue.toml")).arg(command);
        let output = brevdue.env("BREVDUE__ADMIN__LISTEN", "0.0.0.0:8443").output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}: {told}");
        assert!(told.contains("admin.listen: collides with 127.0.0.1:8443"), "{command}: {told}");
    }
}

#[test]
fn what_a_variable_did_is_told_with_the_variable() {
    for (name, value, words) in [
        ("BREVDUE__SERVER__LISTN", "x", "server.listn: is not known"),
        ("BREVDUE__LOG__LEVEL__X", "debug", "log.level: "),
        ("BREVDUE__HANDLERS__NY__URL", "http://127.0.0.1:9/", "handlers.ny.kind: is missing"),
        ("BREVDUE__ALTINN__MASKINPORTEN__KEY_FILE", "none.pem", "none.pem: No such file"),
        ("BREVDUE__SERVER__TLS__KEY_FILE", "none.pem", "none.pem: No such file"),
        ("BREVDUE__ADMIN__SOCKET", "tls", "admin.socket: "),
        (
            "BREVDUE__ALTINN__MASKINPORTEN__KEY_FILE",
            r#"{"kty":"RSA","d":"hunter2"}"#,
            "put it into a file and name the file",
        ),
    ] {
        let desk = Desk::new();
        for command in ["check", "run", "doctor"] {
            let mut brevdue = Command::new(BINARY);
            brevdue.arg("--config").arg(desk.path("brevdue.toml")).arg(command);
            // What stands in files is told by doctor in its own way.
            if command == "doctor" && (words.contains("No such file") || name.contains("SOCKET")) {
                continue;
            }
            let output = brevdue.env(name, value).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{command}: {told}");
            let line = told.lines().find(|line| line.contains(words)).unwrap_or_default();
            assert!(line.contains(&format!(" by {name})")), "{command} {words}: {told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn an_address_that_another_program_has_is_told_by_run_alone() {
    let desk = Desk::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    for (key, from, to) in [
        ("admin.listen", "[admin]", format!("[admin]\nlisten = \"{taken}\"")),
        ("server.listen", "127.0.0.1:0", taken.to_string()),
    ] {
        let desk_text = desk.read("brevdue.toml");
        desk.edit(from, &to);
        assert!(desk.command(&["check"]).status.success(), "{key}");
        let output = desk.command(&["run"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{key}: {told}");
        for words in [&format!("{key}: cannot listen on {taken}"), "name another port"] {
            assert!(told.contains(words), "{key}: {told}");
        }
        desk.write("brevdue.toml", desk_text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_journald_the_log_is_text_whatever_the_environment_says() {
    let world = World::new().await;
    world.edit("format = \"json\"", "format = \"auto\"");
    let mut command = Command::new(BINARY);
    command.env("JOURNAL_STREAM", "8:12345");
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    daemon.ready().await;
    // Where there is one, it has the lines.
    if !Path::new("/run/systemd/journal/socket").exists() {
        eventually("lines as text", || async {
            let log = daemon.log();
            let all = ["log.format", "there is no journald", "hooks are answered"];
            all.iter().all(|words| log.contains(words)).then_some(())
        })
        .await;
    }
    assert!(daemon.stop().await.success());
}
