//! The real binary, started on a configuration, watched over its admin socket.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::eventually;

pub const BINARY: &str = env!("CARGO_BIN_EXE_brevdue");

/// A daemon that runs; killed when dropped.
pub struct Daemon {
    child: Child,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    client: reqwest::Client,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub async fn start(config: &Path, folder: &Path) -> Self {
        let daemon = Self::spawn(config, folder);
        daemon.ready().await;
        daemon
    }

    /// Starts it and waits for nothing. Its log goes to the end of `brevdue.log`.
    pub fn spawn(config: &Path, folder: &Path) -> Self {
        Self::spawn_with(Command::new(BINARY), config, folder)
    }

    /// The same with a command that ends in the binary (a tracer, a socket activator).
    pub fn spawn_with(mut command: Command, config: &Path, folder: &Path) -> Self {
        let log = folder.join("brevdue.log");
        let append = || File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .arg("--config")
            .arg(config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(append())
            .stderr(append())
            .process_group(0)
            .spawn()
            .expect("the binary starts");
        let socket = folder.join("admin.sock");
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy();
        let client = client.timeout(Duration::from_secs(20)).build().expect("a client");
        Self { child, config: config.to_owned(), socket, log, client }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` says 200.
    pub async fn ready(&self) {
        eventually("readiness", || async {
            let answer = self.client.get("http://localhost/readyz").send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// GET of the admin API.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("http://localhost{path}")).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        let answer = self.client.get("http://localhost/metrics").send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    /// Where it listens for hooks, as its log says.
    pub async fn address(&self) -> String {
        eventually("the address in the log", || async {
            let log = BufReader::new(File::open(&self.log).ok()?);
            let lines = log.lines().map_while(Result::ok);
            let last = lines.filter_map(|line| {
                let line: Value = serde_json::from_str(&line).ok()?;
                Some(line.get("listening")?.as_str()?.to_owned())
            });
            last.last()
        })
        .await
    }

    /// Another brevdue command with the same configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&self.config).args(arguments).output().expect("it runs")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it still runs");
    }

    /// SIGKILL, now.
    pub fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it is reaped");
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        let mut look = || child.try_wait().expect("a child");
        eventually("the daemon's end", || std::future::ready(look())).await
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The whole group: a tracer's child must not outlive the test.
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let group = group.expect("a pid");
            drop(rustix::process::kill_process_group(group, Signal::KILL));
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}
