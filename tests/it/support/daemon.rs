//! The real binary, started on a configuration, watched over its admin socket.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::eventually;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_brevdue");

/// A daemon that runs; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    client: reqwest::Client,
}

/// A brevdue command; this thread waits for it, so the stand-in and the receiver must run on others.
pub(crate) fn command(config: &Path, arguments: &[&str]) -> Output {
    if let Ok(runtime) = Handle::try_current() {
        assert_ne!(runtime.runtime_flavor(), RuntimeFlavor::CurrentThread, "it would stand still");
    }
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(config).args(arguments).output().expect("it runs")
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(config: &Path, folder: &Path) -> Self {
        let daemon = Self::spawn(config, folder);
        daemon.ready().await;
        daemon
    }

    /// Starts it and waits for nothing. Its log goes to the end of `brevdue.log`.
    pub(crate) fn spawn(config: &Path, folder: &Path) -> Self {
        Self::spawn_with(Command::new(BINARY), config, folder)
    }

    /// The same with a command that ends in the binary (a tracer, a socket activator).
    pub(crate) fn spawn_with(command: Command, config: &Path, folder: &Path) -> Self {
        Self::spawn_logging(command, config, folder, None)
    }

    /// The same with its log elsewhere than in `brevdue.log`.
    pub(crate) fn spawn_logging(
        mut command: Command,
        config: &Path,
        folder: &Path,
        stderr: Option<Stdio>,
    ) -> Self {
        let log = folder.join("brevdue.log");
        let append = || File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .arg("--config")
            .arg(config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(append())
            .stderr(stderr.unwrap_or_else(|| append().into()))
            .process_group(0)
            .spawn()
            .expect("the binary starts");
        let socket = folder.join("admin.sock");
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy();
        let client = client.timeout(Duration::from_secs(20)).build().expect("a client");
        Self { child, config: config.to_owned(), log, client }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn ready(&self) {
        eventually("readiness", || async {
            let answer = self.client.get("http://localhost/readyz").send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// GET of the admin API.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("http://localhost{path}")).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    /// The metrics page.
    pub(crate) async fn metrics(&self) -> String {
        let answer = self.client.get("http://localhost/metrics").send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    /// Another brevdue command with the same configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        command(&self.config, arguments)
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it still runs");
    }

    /// The number of its process.
    pub(crate) fn number(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, now.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it is reaped");
    }

    /// Stops it, and gives its whole log: a thread of its own writes that, so while the daemon runs
    /// a line may come after what it tells of.
    pub(crate) async fn stopped(self) -> String {
        let log = self.log.clone();
        assert!(self.stop().await.success());
        fs::read_to_string(log).expect("a log")
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        eventually("the daemon's end", || std::future::ready(self.has_ended())).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The whole group: a tracer's child must not outlive the test.
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let group = group.expect("a pid");
            rustix::process::kill_process_group(group, Signal::KILL).expect("it still runs");
            self.child.wait().expect("it is reaped");
        }
        if std::thread::panicking() {
            let log = format!("--- the daemon's log ---\n{}\n", self.log());
            std::io::stderr().write_all(log.as_bytes()).expect("standard error");
        }
    }
}
