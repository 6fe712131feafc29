//! What commands leave running, why they cannot be run, and requests that servers of another make take.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinSet,
};

use crate::support::{
    daemon::Daemon,
    eventually,
    world::{QUICK_RETRY, World, event},
};

async fn push(world: &World, id: &str) {
    let answer = world.push("innboks", event(id)).send().await.unwrap();
    assert!(answer.status().is_success());
}

/// The children of a process: each with whether it waits to be reaped.
fn children(of: u32) -> Vec<bool> {
    let stats = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let parent = of.to_string();
    let child = |stat: String| {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = fields.next()? == "Z";
        (fields.next()? == parent).then_some(ended)
    };
    stats.filter_map(child).collect()
}

fn attempts(page: &str, outcome: &str) -> u64 {
    let labels = format!("{{handler=\"skript\",outcome=\"{outcome}\"}}");
    let line = page
        .lines()
        .find(|line| line.starts_with("brevdue_delivery_attempts_total") && line.contains(&labels));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_leave_running_is_reaped_and_no_exit_is_lost() {
    // In a session of its own, so that it outlives the command and the end of its group.
    let left = "setsid sh -c 'sleep 0.3' >/dev/null 2>&1 & setsid true &";
    let script = format!("{left} case $CE_ID in bad*) exit 65;; slow*) sleep 600;; esac; exit 0");
    let more = format!(
        "[handlers.skript]\nkind = \"exec\"\ntimeout = \"1s\"\nconcurrency = 8\n\
         retry = {{ give_up_after = \"1s\", initial = \"5s\", max = \"5s\" }}\n\
         command = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
    );
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    let daemon = world.daemon().await;
    for n in 0..60 {
        push(&world, &format!("{}-{n}", ["good", "bad", "good"][n % 3])).await;
    }
    push(&world, "slow").await;
    eventually("all attempts", || async {
        let page = daemon.metrics().await;
        let seen = ["delivered", "rejected", "given_up"].map(|outcome| attempts(&page, outcome));
        (seen == [40, 20, 1]).then_some(())
    })
    .await;
    eventually("no child that waits to be reaped", || async {
        children(daemon.number()).is_empty().then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}

/// A program. Another process writes it: while a test that runs beside this one starts a child, that has
/// all of our files open, and what is open for writing cannot be run ("Text file busy").
fn script(path: &Path, text: &str) {
    let source = path.with_extension("text");
    fs::write(&source, text).unwrap();
    assert!(std::process::Command::new("cp").arg(source).arg(path).status().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn reason(daemon: &Daemon) -> String {
    eventually("a reason", || async {
        let letters = daemon.get("/v1/dead-letters?handler=skript").await;
        letters[0]["reason"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_command_cannot_be_run_is_told_in_the_systems_words() {
    for (text, expected) in [
        ("#!/bin/sh\r\nexit 0\r\n", "its first line ends in CR"),
        ("#!/nowhere/at/all\n", "No such file or directory (os error 2)"),
        ("exit 0\n", "Exec format error (os error 8)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skript");
        script(&path, "#!/bin/sh\nexit 0\n");
        let more = format!(
            "[handlers.skript]\nkind = \"exec\"\ncommand = [\"{}\"]\n\
             retry = {{ give_up_after = \"1s\", initial = \"1s\", max = \"1s\" }}\n",
            path.display()
        );
        let world = World::with(|_| {}, QUICK_RETRY, &more).await;
        let daemon = world.daemon().await;
        // The start looks at it, too.
        script(&path, text);
        push(&world, "1").await;
        let told = reason(&daemon).await;
        assert!(told.contains(expected), "{told}");
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_attribute_does_not_keep_a_command_from_its_event() {
    let folder = tempfile::tempdir().unwrap();
    let got = folder.path().join("got");
    let more = format!(
        "[handlers.skript]\nkind = \"exec\"\n\
         command = [\"/bin/sh\", \"-c\", \"wc -c >{0}.new; mv {0}.new {0}\"]\n",
        got.display()
    );
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    world.edit("[server]\n", "[server]\nmax_body = \"512KiB\"\n");
    let daemon = world.daemon().await;
    let mut large: Value = serde_json::from_str(&event("large")).unwrap();
    large["vedlegg"] = "x".repeat(300_000).into();
    let body = large.to_string();
    let answer = world.push("innboks", body.clone()).send().await.unwrap();
    assert!(answer.status().is_success());
    let read = eventually("what the command got", || async { fs::read_to_string(&got).ok() }).await;
    assert_eq!(read.trim(), body.len().to_string());
    assert!(daemon.stop().await.success());
}

/// A server that takes no POST without `Content-Length`, as some do.
async fn strict(listener: TcpListener, good: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.split();
        let mut lines = BufReader::new(read);
        let mut length = None;
        let mut line = String::new();
        while lines.read_line(&mut line).await.unwrap() > 2 {
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<u64>().unwrap());
            }
            line.clear();
        }
        let mut body = Vec::new();
        lines.take(length.unwrap_or(0)).read_to_end(&mut body).await.unwrap();
        let status = if length.is_some() { "204 No Content" } else { "411 Length Required" };
        good.fetch_add(usize::from(length.is_some()), Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
        write.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_the_length_of_every_post_gets_events_without_data() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let good = Arc::new(AtomicUsize::new(0));
    let mut server = JoinSet::new();
    server.spawn(strict(listener, Arc::clone(&good)));
    let more =
        format!("[handlers.streng]\nkind = \"http\"\nurl = \"{url}\"\ncontent_mode = \"binary\"\n");
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    let daemon = world.daemon().await;
    push(&world, "1").await;
    eventually("a POST that is taken", || async {
        (good.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}
