//! Starting, stopping, reloading, and telling systemd.

use std::{
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};
use serde_json::Value;

use crate::support::{
    PATIENCE,
    daemon::{BINARY, Daemon},
    eventually,
    receiver::Behaviour,
    world::{QUICK_RETRY, World, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_let_what_is_in_flight_finish_and_end_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::with(|_| {}, "timeout = \"2s\"\nconcurrency = 1", "").await;
        let daemon = world.daemon().await;
        world.receiver.behave_at_first("in flight", Behaviour::Hang);
        world.push("innboks", event("in flight")).send().await.unwrap();
        world.receiver.wait_for(1).await;
        daemon.signal(signal);
        let log = world.folder.path().join("brevdue.log");
        assert!(daemon.ended().await.success());
        // The hanging attempt ran into its time-out, and that was written down.
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("\"stopped\""), "{log}");
        let daemon = world.daemon().await;
        let second = world.receiver.wait_for(2).await;
        assert_eq!(second[1].header("brevdue-attempt"), "2");
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_with_78_and_says_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("brevdue.toml");
    std::fs::write(&path, "shutdown_grace = \"soon\"\n[handlers.raw]\nkind = \"nats\"\n").unwrap();
    for command in ["run", "check"] {
        let output = Command::new(BINARY).arg("--config").arg(&path).arg(command).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}");
        let told = String::from_utf8(output.stderr).unwrap();
        for key in ["shutdown_grace", "server.public_url", "handlers.raw"] {
            assert!(told.contains(key), "{command} does not name {key}:\n{told}");
        }
    }
    let output = Command::new(BINARY).arg("no-such-command").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_a_taken_port_and_a_locked_store_end_the_start_with_a_reason() {
    let world = World::new().await;
    let taken = TcpListener::bind(world.listen).unwrap();
    let run = || Command::new(BINARY).arg("--config").arg(&world.config).arg("run").output();
    let output = run().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("cannot listen on"), "{told}");
    drop(taken);

    let daemon = world.daemon().await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let port = format!("listen = [\"{}\"]", world.listen);
    let other = text.replace(&port, "listen = [\"127.0.0.1:0\"]").replace("admin.sock", "b.sock");
    let second = world.folder.path().join("second.toml");
    std::fs::write(&second, other).unwrap();
    let output = Command::new(BINARY).arg("--config").arg(&second).arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("another process"), "{told}");
    assert!(daemon.stop().await.success());

    std::fs::remove_file(world.folder.path().join("maskinporten.pem")).unwrap();
    let output = run().unwrap();
    assert_ne!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("maskinporten.pem"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_brevdue_makes_is_for_its_user_only() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let mode = |path: &str| {
        let path = world.folder.path().join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("data"), 0o700);
    assert_eq!(mode("data/secrets"), 0o700);
    assert_eq!(mode("data/secrets/innboks"), 0o600);
    assert_eq!(mode("admin.sock"), 0o660);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_in_a_new_certificate_and_new_secrets() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let old = world.hook("innboks");
    let made = world.folder.path().join("data/secrets/innboks");
    let new = "a-new-secret-for-the-hook-0001";
    std::fs::write(&made, format!("{new}\n{}\n", world.secret("innboks"))).unwrap();
    let garbage = world.folder.path().join("tls/fullchain.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    daemon.signal(Signal::HUP);
    let new = world.url(&format!("/hooks/innboks?code={new}"));
    for (id, url) in [("by the new secret", &new), ("by the old one", &old)] {
        eventually(id, || async {
            let request = world.client.post(url).header("content-type", "application/json");
            let answer = request.body(event(id)).send().await.unwrap();
            (answer.status() == 200).then_some(())
        })
        .await;
    }
    eventually("a word about the certificate", || async {
        daemon.log().contains("kept as it was").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}

/// The first words of a start to systemd, before the store is opened.
const MORE_TIME: &str = "EXTEND_TIMEOUT_USEC=60000000";

/// The next message to systemd.
fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let read = socket.recv(&mut buffer).expect("a message to systemd");
    String::from_utf8_lossy(&buffer[..read]).trim().to_owned()
}

/// A pipe with this name.
fn fifo(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Fifo, mode, 0).expect("a named pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_readiness_the_watchdog_and_the_end_in_this_order() {
    let world = World::new().await;
    let notify = world.folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "200000");
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    let mut told = vec![next(&socket)];
    while told.last().unwrap() != "WATCHDOG=1" {
        told.push(next(&socket));
    }
    daemon.signal(Signal::TERM);
    while told.last().unwrap() != "STOPPING=1" {
        told.push(next(&socket));
    }
    told.dedup();
    assert_eq!(told, [MORE_TIME, "READY=1", "WATCHDOG=1", "STOPPING=1"]);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_the_store_asks_systemd_for_time_and_ends_with_0_at_a_signal() {
    let world = World::new().await;
    let queue = world.folder.path().join("data/queue");
    std::fs::create_dir_all(&queue).unwrap();
    // Whoever opens it for writing waits for a reader, which never comes.
    let lock = queue.join("lock");
    fifo(&lock);
    let notify = world.folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = Command::new(BINARY);
        command.env("NOTIFY_SOCKET", &notify);
        let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
        assert_eq!(next(&socket), MORE_TIME);
        daemon.signal(signal);
        assert_eq!(next(&socket), "STOPPING=1");
        assert!(daemon.ended().await.success());
    }
    std::fs::remove_file(&lock).unwrap();
    assert!(world.daemon().await.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_to_its_end_does_not_keep_a_start_from_ending_at_a_signal() {
    let world = World::new().await;
    let data = world.folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    fifo(&data.join("altinn-state.json"));
    let daemon = Daemon::spawn(&world.config, world.folder.path());
    let socket = world.folder.path().join("admin.sock");
    // Bound before that file is read.
    eventually("a start", || async { socket.exists().then_some(()) }).await;
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_read_to_its_end_does_not_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("brevdue.toml");
    fifo(&path);
    let daemon = Daemon::spawn(&path, folder.path());
    // It can be opened for writing, without waiting, as soon as somebody reads.
    let _writing = eventually("a reader", || async {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        rustix::fs::open(&path, flags, Mode::empty()).ok()
    })
    .await;
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_systemd_opened_is_served() {
    let world = World::new().await;
    let mut command = Command::new("systemd-socket-activate");
    let path = std::env::var("PATH").unwrap();
    command
        .arg("--listen")
        .arg(world.listen.to_string())
        .arg("--setenv")
        .arg(format!("PATH={path}"));
    command.arg(BINARY);
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    // The activator starts the daemon with the first connection, which waits until it is served.
    let hello = eventually("an answer", || async {
        world.client.get(world.url("/hooks/innboks")).send().await.ok()
    });
    assert_eq!(hello.await.status(), 405);
    daemon.ready().await;
    assert_eq!(world.push("innboks", event("one")).send().await.unwrap().status(), 200);
    world.receiver.wait_for(1).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_left_the_configuration_holds_nothing_and_keeps_its_place() {
    let world = World::with(|_| {}, QUICK_RETRY, "").await;
    let daemon = world.daemon().await;
    world.push("innboks", event("one")).send().await.unwrap();
    world.receiver.wait_for(1).await;
    assert!(daemon.stop().await.success());
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text.replace("[handlers.arkiv]", "[handlers.nytt]")).unwrap();
    let daemon = world.daemon().await;
    let status = daemon.get("/v1/status").await;
    let handlers: Vec<Value> = serde_json::from_value(status["handlers"].clone()).unwrap();
    let configured = |name: &str| {
        let handler = handlers.iter().find(|handler| handler["name"] == name);
        handler.expect("listed")["configured"].clone()
    };
    assert_eq!(configured("arkiv"), false);
    assert_eq!(configured("nytt"), true);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn start_up_to_ready_takes_less_than_its_bound() {
    let world = World::new().await;
    let began = tokio::time::Instant::now();
    let daemon = world.daemon().await;
    world.validated(1).await;
    // A debug build on a busy machine; the release build is measured by the demo.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(daemon.stop().await.success());
}
