//! The program under load: started on one core with the least configuration, and what it tells of
//! itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const TOKEN: &str = "the-token-of-this-bench";
/// The start may take this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events are not logged: what is measured is the way to the store. The line with the address is.
const CONFIGURATION: &str = r#"
data_dir = "data"
[server]
listen = ["127.0.0.1:0"]
public_url = "https://localhost"
tls = { certificate_file = "certificate.pem", key_file = "key.pem" }
[admin]
socket = "admin.sock"
[log]
format = "json"
level = "warn,brevdue::cli=info"
[queue]
min_free_disk = "64MiB"
[sources.bench]
auth = { bearer_file = "token" }
"#;

/// The first and the last core that this process may use: for the daemon, and for the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) daemon: usize,
    pub(crate) load: usize,
}

impl Cores {
    pub(crate) fn allowed() -> anyhow::Result<Self> {
        let set = sched_getaffinity(None)?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let daemon = allowed.next().context("no core is allowed")?;
        Ok(Self { daemon, load: allowed.next_back().unwrap_or(daemon) })
    }
}

/// This thread, and what it starts from now on, runs on this core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A daemon that runs; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) certificate: rcgen::Certificate,
}

/// What it has done so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Syncs for events and whatever else it wrote.
    pub(crate) commits: u64,
    /// Processor time in hundredths of a second.
    pub(crate) ticks: u64,
}

impl Daemon {
    /// Starts it with an empty store, and returns when it answers hooks.
    pub(crate) fn start(binary: &Path, cores: Cores) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("certificate.pem", &own.cert.pem())?;
        write("key.pem", &own.signing_key.serialize_pem())?;
        write("token", TOKEN)?;
        write("brevdue.toml", CONFIGURATION)?;
        pin(cores.daemon)?;
        let started = Command::new(binary)
            .arg("--config")
            .arg(folder.path().join("brevdue.toml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        pin(cores.load)?;
        let mut child = started.with_context(|| format!("cannot start {}", binary.display()))?;
        let address = child.stderr.take().context("it has no standard error").and_then(listening);
        match address {
            Ok(address) => Ok(Self { child, folder, address, certificate: own.cert }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) async fn done(&self) -> anyhow::Result<Done> {
        let socket = self.folder.path().join("admin.sock");
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build()?;
        let page = client.get("http://localhost/metrics").send().await?.text().await?;
        let commits =
            page.lines().find_map(|line| line.strip_prefix("brevdue_store_commits_total "));
        let commits = commits.context("the page of metrics has no count of commits")?.parse()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in parentheses, can have spaces in it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
        Ok(Done { commits, ticks })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it ended by itself; then the load has failed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for the line of the log that says where hooks are answered; passes on all other lines.
fn listening(log: ChildStderr) -> anyhow::Result<SocketAddr> {
    let (told, hear) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            match address(&line) {
                Some(address) => drop(told.try_send(address)),
                None => eprintln!("{line}"),
            }
        }
    });
    hear.recv_timeout(PATIENCE).context("the daemon did not start")
}

fn address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.pointer("/listening")?.as_str()?.parse().ok()
}
