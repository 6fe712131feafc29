//! A log that nobody reads.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    process::{Command, Stdio},
    time::Duration,
};

use reqwest::StatusCode;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::{
    PATIENCE,
    daemon::{BINARY, Daemon},
    eventually,
    world::{World, event},
};

/// A pipe without room for another byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(b"x").is_ok() {}
    // The daemon has the same description of it, and is not to know.
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// An event whose line in the log is long.
fn long(id: usize) -> String {
    let id = format!("{id}-{}", "i".repeat(4000));
    let ty = format!("no.altinn.{}", "t".repeat(4000));
    event(&id).replace("no.altinn.correspondence.correspondencepublished", &ty)
}

fn dropped(page: &str) -> u64 {
    let line = page.lines().find(|line| line.starts_with("brevdue_log_lines_dropped_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Pushes until lines are dropped; everything is answered and delivered all the same.
async fn push_until_lines_are_dropped(world: &World, daemon: &Daemon) {
    let mut sent = 0;
    while dropped(&daemon.metrics().await) == 0 {
        assert!(sent < 5000, "no line was dropped");
        for _ in 0..50 {
            let push = world.push("innboks", long(sent)).timeout(Duration::from_secs(20));
            assert_eq!(push.send().await.unwrap().status(), StatusCode::OK);
            sent += 1;
        }
    }
    world.receiver.wait_for(sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_never_read_holds_up_nothing_and_not_the_end() {
    let world = World::new().await;
    let (reader, writer) = full_pipe();
    let stderr = Some(Stdio::from(writer));
    let (config, folder) = (&world.config, world.folder.path());
    let daemon = Daemon::spawn_logging(Command::new(BINARY), config, folder, stderr);
    daemon.ready().await;
    world.validated(1).await;
    push_until_lines_are_dropped(&world, &daemon).await;
    let status = daemon.command(&["status", "--json"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    daemon.signal(rustix::process::Signal::HUP);
    assert!(daemon.stop().await.success());
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_log_is_read_again_it_goes_on_and_tells_what_is_missing() {
    let world = World::new().await;
    let (reader, writer) = pipe().unwrap();
    let stderr = Some(Stdio::from(writer));
    let (config, folder) = (&world.config, world.folder.path());
    let daemon = Daemon::spawn_logging(Command::new(BINARY), config, folder, stderr);
    daemon.ready().await;
    push_until_lines_are_dropped(&world, &daemon).await;
    let (mut reader, copy) = (reader, folder.join("read.log"));
    let mut file = File::create(&copy).unwrap();
    let reading = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut file));
    eventually("a line that tells of the others", || async {
        let log = std::fs::read_to_string(&copy).unwrap();
        log.contains("lines of the log were dropped").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
    reading.await.unwrap().unwrap();
    let log = std::fs::read_to_string(&copy).unwrap();
    assert!(log.lines().last().unwrap().contains("stopped"), "the last line is there");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("whole lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_to_end_that_nobody_reads_does_not_keep_it_from_ending() {
    let world = World::new().await;
    world.edit("[altinn]", "[altin]");
    let (mut reader, writer) = full_pipe();
    let mut run = Command::new(BINARY);
    run.arg("--config").arg(&world.config).arg("run").stderr(writer);
    let mut child = tokio::process::Command::from(run).kill_on_drop(true).spawn().unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(78));
    let mut rest = Vec::new();
    // The pipe's other end is gone with the process.
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == b'x'), "there was no room");
}
