//! Signals that come before the daemon has begun.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};

use crate::support::{daemon::Daemon, eventually, world::World};

/// A daemon that waits for its configuration, and the way to give it.
fn waiting(world: &World) -> (Daemon, PathBuf) {
    let fifo = world.folder.path().join("fifo.toml");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let daemon = Daemon::spawn(&fifo, world.folder.path());
    (daemon, fifo)
}

/// Waits until it catches SIGHUP, SIGINT and SIGTERM.
async fn catches(daemon: &Daemon) {
    let status = format!("/proc/{}/status", daemon.number());
    eventually("three signals that are caught", || async {
        let status = fs::read_to_string(&status).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        let all = [1, 2, 15].map(|signal| 1 << (signal - 1)).iter().sum::<u64>();
        (caught & all == all).then_some(())
    })
    .await;
}

async fn give(fifo: &Path, config: &Path) {
    let (fifo, text) = (fifo.to_owned(), fs::read_to_string(config).unwrap());
    tokio::task::spawn_blocking(move || fs::write(fifo, text)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_before_the_configuration_is_read_is_remembered() {
    let world = World::new().await;
    let (daemon, fifo) = waiting(&world);
    catches(&daemon).await;
    daemon.signal(Signal::HUP);
    give(&fifo, &world.config).await;
    daemon.ready().await;
    eventually("a reading anew", || async { daemon.log().contains("read anew").then_some(()) })
        .await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_asked_for_before_the_configuration_is_read_is_an_end_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new().await;
        // Nobody ever writes the configuration.
        let (daemon, _fifo) = waiting(&world);
        catches(&daemon).await;
        daemon.signal(Signal::HUP);
        daemon.signal(signal);
        assert!(daemon.ended().await.success(), "{signal:?}");
    }
}
