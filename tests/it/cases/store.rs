//! The store from outside: `brevdue verify`, starting for want of files, and large bodies.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, lchown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    PATIENCE,
    daemon::{BINARY, Daemon},
    eventually,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-v1.tar.gz");
const SECRET: &str = "a-secret-of-more-than-16-characters";

/// A data directory with a store in it, and a configuration.
struct Bench {
    folder: TempDir,
    config: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("secret"), SECRET).unwrap();
        let config = path.join("brevdue.toml");
        let text = r#"
            data_dir = "data"
            shutdown_grace = "5s"
            [server]
            listen = ["127.0.0.1:0"]
            public_url = "https://hooks.example.no"
            tls = "off"
            trusted_proxies = ["127.0.0.1"]
            max_body = "1MiB"
            [admin]
            socket = "admin.sock"
            [sources.s]
            auth = { bearer_file = "secret" }
            [handlers.a]
            kind = "file"
            path = "events.jsonl"
        "#;
        fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    /// With the golden store.
    fn golden() -> Self {
        let bench = Self::new();
        fs::create_dir_all(bench.queue()).unwrap();
        let unpacked =
            Command::new("tar").arg("xzf").arg(GOLDEN).current_dir(bench.queue()).status();
        assert!(unpacked.unwrap().success());
        bench
    }

    fn queue(&self) -> PathBuf {
        self.folder.path().join("data/queue")
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&self.config).arg("verify").args(arguments);
        command.env("RUST_BACKTRACE", "0").output().unwrap()
    }

    async fn daemon(&self) -> Daemon {
        Daemon::start(&self.config, self.folder.path()).await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("brevdue.log")).unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// How it ended; None if it had to be killed.
fn ended(mut child: Child, enough: impl Fn() -> bool) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().expect("no signal"));
        }
        if enough() || began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(enough(), "it hung");
            return None;
        }
        std::thread::yield_now();
    }
}

#[test]
fn verify_says_what_is_whole_what_is_not_and_repairs_it() {
    let bench = Bench::golden();
    let good = bench.verify(&[]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    let said = text(&good.stdout);
    assert!(said.contains("6 events, numbered from 2") && said.contains("Nothing is wrong"));
    let json: Value = serde_json::from_slice(&bench.verify(&["--json"]).stdout).unwrap();
    assert_eq!((&json["whole"], &json["holds"]["next"]), (&true.into(), &8.into()));

    let db = bench.queue().join("store/sled/db");
    let file = fs::OpenOptions::new().write(true).open(&db).unwrap();
    file.write_all_at(&[0xA5; 16], 0).unwrap();
    let before = fs::read(&db).unwrap();
    let bad = bench.verify(&[]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("A repair would:"), "{}", text(&bad.stdout));
    assert!(text(&bad.stderr).contains("verify --repair"), "{}", text(&bad.stderr));
    assert_eq!(fs::read(&db).unwrap(), before, "verifying changes nothing");

    let repaired = bench.verify(&["--repair"]);
    assert!(repaired.status.success(), "{}", text(&repaired.stderr));
    let said = text(&repaired.stdout);
    let (_, aside) = said.split_once("is kept in ").unwrap();
    let aside = Path::new(aside.trim().trim_end_matches('.'));
    assert_eq!(fs::read(aside.join("store/sled/db")).unwrap(), before, "the damaged one is kept");
    assert!(bench.verify(&[]).status.success());
}

/// Every file and folder in here, with its owner and its group.
fn owners(folder: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(owners(&path));
        }
        found.push((path, metadata.uid(), metadata.gid()));
    }
    found
}

/// An operator repairs as root; the service runs as a user of its own.
#[test]
fn a_repair_leaves_the_store_to_the_owner_of_its_directory() {
    let bench = Bench::golden();
    let owner = if rustix::process::geteuid().is_root() {
        for (path, ..) in owners(&bench.queue()) {
            lchown(path, Some(12_345), Some(54_321)).unwrap();
        }
        lchown(bench.queue(), Some(12_345), Some(54_321)).unwrap();
        (12_345, 54_321)
    } else {
        let folder = fs::metadata(bench.queue()).unwrap();
        (folder.uid(), folder.gid())
    };
    assert!(bench.verify(&[]).status.success());
    let db = bench.queue().join("store/sled/db");
    fs::OpenOptions::new().write(true).open(db).unwrap().write_all_at(&[0xA5; 16], 0).unwrap();
    assert!(bench.verify(&["--repair"]).status.success());
    assert!(bench.verify(&[]).status.success());
    for (path, uid, gid) in owners(&bench.queue()) {
        assert_eq!((uid, gid), owner, "{}", path.display());
    }
    let store = fs::metadata(bench.queue().join("store")).unwrap();
    assert_eq!(store.mode() & 0o777, 0o700, "it is for its owner only");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_leaves_a_running_daemon_alone() {
    let bench = Bench::golden();
    let daemon = bench.daemon().await;
    let refused = bench.verify(&["--repair"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("in use by another process: stop that one first"));
    assert!(daemon.stop().await.success());
    assert!(bench.verify(&[]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_on_a_damaged_store_and_says_what_to_do() {
    let bench = Bench::golden();
    let file =
        fs::OpenOptions::new().write(true).open(bench.queue().join("store/sled/db")).unwrap();
    file.write_all_at(&[0xA5; 16], 0).unwrap();
    let daemon = Daemon::spawn(&bench.config, bench.folder.path());
    assert_eq!(daemon.ended().await.code(), Some(1));
    assert!(bench.log().contains("brevdue verify --repair"), "{}", bench.log());
    assert!(bench.verify(&["--repair"]).status.success());
    assert!(bench.daemon().await.stop().await.success());
}

#[test]
fn without_open_files_a_start_ends_or_succeeds_and_never_hangs() {
    let bench = Bench::golden();
    let mut refused = 0;
    for limit in [4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 20] {
        for command in ["verify", "run"] {
            let line = format!("ulimit -n {limit}; exec \"$0\" --config \"$1\" {command}");
            let child = Command::new("sh")
                .args(["-c", &line, BINARY])
                .arg(&bench.config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let socket = bench.folder.path().join("admin.sock");
            fs::remove_file(&socket).ok();
            let running = command == "run";
            match ended(child, || running && socket.exists()) {
                Some(0) => assert!(!running, "{limit}: a daemon does not end well by itself"),
                // Already the configuration can be out of reach.
                Some(1 | 78) => refused += 1,
                Some(code) => panic!("{limit} {command}: {code}"),
                None => {}
            }
        }
    }
    assert!(refused > 0, "no limit was too low");
    assert!(bench.verify(&[]).status.success(), "the store is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_mebibyte_is_stored_and_delivered_and_a_larger_one_refused() {
    let bench = Bench::new();
    let daemon = bench.daemon().await;
    let port = eventually("the port", || async {
        let log = bench.log();
        let (_, rest) = log.split_once("127.0.0.1:")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u16>().ok().filter(|port| *port != 0)
    })
    .await;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
    let client = client.build().unwrap();
    let push = |len: usize| {
        let head = r#"{"specversion":"1.0","id":"large","source":"/s","type":"t","data":""#;
        let body = format!("{head}{}\"}}", "x".repeat(len - head.len() - 2));
        let url = format!("http://127.0.0.1:{port}/hooks/s");
        let kind = ("content-type", "application/cloudevents+json");
        client.post(url).bearer_auth(SECRET).header(kind.0, kind.1).body(body).send()
    };
    assert_eq!(push(1024 * 1024).await.unwrap().status(), 200);
    let delivered = eventually("the delivery", || async {
        let text = fs::read_to_string(bench.folder.path().join("events.jsonl")).ok()?;
        text.ends_with('\n').then_some(text)
    })
    .await;
    assert!(delivered.len() >= 1024 * 1024);
    let refused = push(1024 * 1024 + 1).await;
    assert!(refused.is_ok_and(|answer| answer.status() == 413));
    assert!(daemon.stop().await.success());
    assert!(
        !bench.queue().join("store/sled/blobs").exists() || {
            fs::read_dir(bench.queue().join("store/sled/blobs")).unwrap().next().is_none()
        }
    );
}
