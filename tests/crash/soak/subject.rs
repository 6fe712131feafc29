//! The program under test: its process, its log, and what it takes of the machine.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{Read, Write},
    num::NonZeroU32,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    shim::Shim,
    support::{daemon::BINARY, eventually, receiver::Receiver, world::World},
};

const RETRY: &str = "timeout = \"1s\"\nretry = { initial = \"20ms\", max = \"1s\" }";
/// Altinn's time runs this many times as fast.
const SCALE: u32 = 20;
const MIB: u64 = 1 << 20;

/// What it takes of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footprint {
    descriptors: usize,
    threads: u64,
    memory: u64,
    disk: u64,
}

impl Footprint {
    /// Errs with what has not come back to about where it was before.
    pub(super) fn is_back_at(&self, before: &Self) -> Result<(), String> {
        let is_back = self.descriptors <= before.descriptors + 16
            && self.threads <= before.threads + 8
            && self.memory <= before.memory + 64 * MIB
            && self.disk <= before.disk + 64 * MIB;
        if is_back { Ok(()) } else { Err(format!("{before} before, {self} now")) }
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, memory, disk } = self;
        let (memory, disk) = (memory / MIB, disk / MIB);
        write!(f, "{descriptors} descriptors, {threads} threads, {memory} MiB, {disk} MiB of disk")
    }
}

/// On or off, and who waits for it.
type Switch = (Mutex<bool>, Condvar);

/// The program, in its world.
pub(super) struct Subject {
    pub(super) world: World,
    pub(super) shim: Shim,
    pub(super) good_certificate: String,
    pub(super) kills: usize,
    /// Since it was started its certificate was none at some time.
    pub(super) may_refuse: bool,
    pub(super) second: Receiver,
    child: Child,
    is_read: Arc<Switch>,
    admin: reqwest::Client,
}

impl Subject {
    /// Started, ready, and known to Altinn.
    pub(super) async fn start() -> Self {
        let second = Receiver::start().await;
        let more = format!(
            "[handlers.treg]\nkind = \"http\"\nurl = \"{}\"\n{RETRY}\n\
             [handlers.kopi]\nkind = \"file\"\npath = \"kopi.jsonl\"\n",
            second.url()
        );
        let scale = NonZeroU32::new(SCALE).unwrap();
        let world = World::with(|options| options.time_scale = scale, RETRY, &more).await;
        world.altinn_settings("feed_interval = \"1s\"\nreconcile_interval = \"1s\"\n");
        let root = world.folder.path().canonicalize().unwrap();
        let aside = root.join("aside");
        fs::create_dir_all(&aside).unwrap();
        let shim = Shim::new(&root.join("data"), &aside);
        let admin = reqwest::Client::builder().unix_socket(root.join("admin.sock")).no_proxy();
        let admin = admin.timeout(Duration::from_secs(5)).build().unwrap();
        let good_certificate = fs::read_to_string(root.join("tls/fullchain.pem")).unwrap();
        let is_read = Arc::new((Mutex::new(true), Condvar::new()));
        let child = spawn(&world, &shim, &is_read);
        let subject = Self {
            world,
            shim,
            good_certificate,
            kills: 0,
            may_refuse: false,
            second,
            child,
            is_read,
            admin,
        };
        eventually("readiness", || async { subject.is_idle().await.ok() }).await;
        subject.world.validated(1).await;
        subject
    }

    /// Where the handlers' events go.
    pub(super) fn targets(&self) -> [&Receiver; 2] {
        [&self.world.receiver, &self.second]
    }

    /// Ids of the events in the file.
    pub(super) fn filed(&self) -> BTreeSet<String> {
        let lines = fs::read_to_string(self.world.folder.path().join("kopi.jsonl")).unwrap();
        let id = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("whole lines");
            event["id"].as_str().unwrap().to_owned()
        };
        lines.lines().map(id).collect()
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.world.folder.path().join("tls/fullchain.pem")
    }

    /// Sends it a signal, once it has come to its first line: no program can catch one before that.
    pub(super) async fn signal(&mut self, signal: Signal) {
        let status = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let catches = || {
            let status = fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            caught & (1 << (signal.as_raw() - 1)) != 0
        };
        let child = &mut self.child;
        eventually("a handler of the signal", || {
            // It may have ended by itself just now.
            let is_up = child.try_wait().unwrap().is_some() || catches();
            std::future::ready(is_up.then_some(()))
        })
        .await;
        // It may have ended since.
        kill_process(self.pid(), signal).ok();
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid")
    }

    /// Its log is read, or not.
    pub(super) fn read_log(&self, read: bool) {
        *self.is_read.0.lock().unwrap() = read;
        self.is_read.1.notify_all();
    }

    pub(super) fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.kills += 1;
        self.spawn_again();
    }

    fn spawn_again(&mut self) {
        let certificate = fs::read_to_string(self.certificate()).unwrap();
        self.may_refuse = certificate != self.good_certificate;
        self.child = spawn(&self.world, &self.shim, &self.is_read);
    }

    /// Lets it live; started anew if it ends as it may, as systemd does.
    pub(super) async fn live_for(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            sleep(Duration::from_millis(50).min(end - Instant::now())).await;
            let Some(status) = self.child.try_wait().unwrap() else { continue };
            let may_end =
                status.code() == Some(1) || (status.code() == Some(78) && self.may_refuse);
            assert!(may_end, "ended with {status}\n{}", self.last_words());
            sleep(Duration::from_millis(100)).await;
            self.spawn_again();
        }
    }

    /// Errs unless it is ready, and all handlers have everything.
    pub(super) async fn is_idle(&self) -> Result<(), String> {
        let answer = self.admin.get("http://localhost/v1/status").send().await;
        let answer = answer.map_err(|error| format!("no status: {error}"))?;
        let status: Value = answer.json().await.map_err(|error| error.to_string())?;
        let is_idle = |handler: &Value| {
            ["pending", "retrying", "dead_letters"].iter().all(|count| handler[*count] == 0)
        };
        let handlers = status["handlers"].as_array().ok_or("no handlers")?;
        let is_idle = status["ready"] == true && handlers.iter().all(is_idle);
        if is_idle { Ok(()) } else { Err(format!("not idle: {status}")) }
    }

    /// It answers, unless it is just being started.
    pub(super) async fn is_alive(&self) {
        let answer = self.admin.get("http://localhost/livez").send().await;
        let is_late = answer.is_err_and(|error| error.is_timeout());
        assert!(!is_late, "it does not answer\n{}", self.last_words());
    }

    pub(super) fn footprint(&self) -> Footprint {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        Footprint {
            descriptors: fs::read_dir(proc.join("fd")).unwrap().count(),
            threads: number("Threads"),
            memory: number("VmRSS") * 1024,
            disk: disk(&self.world.folder.path().join("data")),
        }
    }

    /// SIGTERM, and how it ended.
    pub(super) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM).await;
        let child = &mut self.child;
        eventually("its end", || std::future::ready(child.try_wait().unwrap())).await
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(self.world.folder.path().join("brevdue.log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8_000)..]).into_owned()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It is gone after a test that went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts it on the shim, with its log in a pipe.
fn spawn(world: &World, shim: &Shim, is_read: &Arc<Switch>) -> Child {
    let mut command = Command::new(BINARY);
    shim.stand_between(&mut command);
    command.arg("--config").arg(&world.config).arg("run");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().expect("the binary starts");
    let (mut pipe, is_read) = (child.stderr.take().unwrap(), Arc::clone(is_read));
    let log = world.folder.path().join("brevdue.log");
    let mut log = File::options().create(true).append(true).open(log).unwrap();
    // Ends with the process.
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            drop(is_read.1.wait_while(is_read.0.lock().unwrap(), |is_read| !*is_read).unwrap());
            match pipe.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(read) => log.write_all(&piece[..read]).unwrap(),
            }
        }
    });
    child
}

/// Bytes that a folder takes on the disk.
fn disk(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        // A file may go while it is looked at.
        let Ok(file) = entry.metadata() else { continue };
        bytes += if file.is_dir() { disk(&entry.path()) } else { file.blocks() * 512 };
    }
    bytes
}
