//! The program on a disk that a test makes sick: pushes from many senders, what they were answered
//! and when, and whether it is healed.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::StatusCode;
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, interval, timeout},
};

use crate::{
    image::{self, Cut},
    recording::Recording,
    shim::{Fault, Shim},
    support::{
        daemon::{BINARY, Daemon},
        world::{World, event},
    },
};

/// It has this long to be healed, from when the disk works again.
pub(super) const HEALED: Duration = Duration::from_secs(35);
/// The longest that anything else may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a test found wrong.
pub(super) type Verdict<T> = Result<T, String>;

/// The program, and all that it was told and said.
pub(super) struct Patient {
    pub(super) world: World,
    pub(super) shim: Arc<Shim>,
    pub(super) pushes: Arc<Pushes>,
    /// None while it is not running.
    daemon: Option<Daemon>,
    admin: reqwest::Client,
    log: PathBuf,
    /// Bytes that it had logged when it was started.
    logged: usize,
    /// It ended by itself, and was started again.
    pub(super) restarts: usize,
}

impl Patient {
    /// Started on a disk that works.
    pub(super) async fn start(world: World) -> Verdict<Self> {
        let root = world.folder.path().canonicalize().unwrap();
        let aside = root.join("aside");
        fs::create_dir_all(&aside).unwrap();
        let log = aside.join("log");
        let shim = Arc::new(Shim::new(&root.join("data"), &aside).recording(log.clone()));
        let socket = root.join("admin.sock");
        let admin = reqwest::Client::builder().unix_socket(socket).no_proxy();
        let admin = admin.timeout(Duration::from_secs(20)).build().unwrap();
        let pushes = Pushes {
            url: Mutex::default(),
            client: world.client.clone(),
            shim: Arc::clone(&shim),
            answered: Mutex::default(),
            wrong: Mutex::default(),
            is_out: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        };
        let pushes = Arc::new(pushes);
        let mut patient =
            Self { world, shim, pushes, daemon: None, admin, log, logged: 0, restarts: 0 };
        patient.spawn();
        patient.heals().await?;
        Ok(patient)
    }

    /// Starts the program, and waits for nothing.
    pub(super) fn spawn(&mut self) {
        let log = fs::read(self.world.folder.path().join("brevdue.log"));
        self.logged = log.map_or(0, |log| log.len());
        let mut command = Command::new(BINARY);
        self.shim.stand_between(&mut command);
        self.daemon =
            Some(Daemon::spawn_with(command, &self.world.config, self.world.folder.path()));
    }

    /// SIGTERM; how it ended, or that it did not.
    pub(super) async fn terminate(&mut self, within: Duration) -> Verdict<Option<i32>> {
        let mut daemon = self.daemon.take().ok_or("it does not run")?;
        daemon.signal(rustix::process::Signal::TERM);
        let ended = until(within, async || daemon.has_ended()).await;
        ended.map(|status| status.code()).ok_or_else(|| format!("runs {within:?} after SIGTERM"))
    }

    /// From now on the disk is like this.
    pub(super) fn falls_ill(&self, faults: &[Fault<'_>]) {
        self.shim.set(faults);
        self.pushes.is_out.store(true, Ordering::SeqCst);
    }

    /// From now on it works.
    pub(super) fn mend(&self) {
        self.pushes.is_out.store(false, Ordering::SeqCst);
        self.shim.mend();
    }

    /// A GET of the admin API; None if that does not answer.
    pub(super) async fn get(&self, path: &str) -> Option<StatusCode> {
        let url = format!("http://localhost{path}");
        self.admin.get(url).send().await.ok().map(|answer| answer.status())
    }

    /// A POST of the admin API, which is to succeed.
    pub(super) async fn post(&self, path: &str) -> Verdict<()> {
        let answer = self.admin.post(format!("http://localhost{path}")).send().await;
        let done = answer.is_ok_and(|answer| answer.status().is_success());
        done.then_some(()).ok_or_else(|| self.tells(&format!("POST of {path} failed")))
    }

    pub(super) async fn is_ready(&self) -> bool {
        self.get("/readyz").await == Some(StatusCode::OK)
    }

    /// Waits until it takes pushes again, and starts it if it ended as it should.
    pub(super) async fn heals(&mut self) -> Verdict<Duration> {
        let began = Instant::now();
        let mut limit = began + HEALED;
        let mut pace = interval(Duration::from_millis(50));
        while Instant::now() < limit {
            pace.tick().await;
            if self.ended_well()? {
                self.spawn();
                self.restarts += 1;
                limit = Instant::now() + HEALED;
            }
            if !self.is_ready().await {
                continue;
            }
            self.pushes.learn_url(&self.world);
            return match self.pushes.push(0).await {
                Some(StatusCode::OK) => Ok(began.elapsed()),
                other => Err(self.tells(&format!("says it is ready, and a push got {other:?}"))),
            };
        }
        let push = self.pushes.push(0).await;
        let (ready, live) = (self.get("/readyz").await, self.get("/livez").await);
        Err(self.tells(&format!(
            "not healed within {HEALED:?}: a push got {push:?}, /readyz {ready:?}, /livez {live:?}"
        )))
    }

    /// Whether it has ended, with exit code 1; another end is wrong.
    fn ended_well(&mut self) -> Verdict<bool> {
        let ended = self.daemon.as_mut().and_then(Daemon::has_ended);
        match ended.map(|status| (status.code(), status)) {
            None => Ok(false),
            Some((Some(1), _)) if !self.last_words().is_empty() => Ok(true),
            Some((_, status)) => Err(self.tells(&format!("ended with {status}"))),
        }
    }

    /// Every answered event is at the handler.
    pub(super) async fn all_came(&self) -> Verdict<()> {
        let mut missing = self.pushes.answered_until(u64::MAX);
        let mut seen = 0;
        until(PATIENCE, async || {
            for request in self.world.receiver.received_after(seen) {
                seen += 1;
                missing.remove(&request.id());
            }
            missing.is_empty().then_some(())
        })
        .await
        .ok_or_else(|| self.tells(&format!("{} answered events never came", missing.len())))
    }

    /// What a power loss at some moment from `began` on leaves has all that was answered by then.
    pub(super) async fn survives_power_loss(&mut self, began: u64) -> Verdict<()> {
        self.daemon.take().ok_or("it does not run")?.kill();
        let folder = self.world.folder.path().canonicalize().unwrap();
        let (data, real) = (folder.join("data"), folder.join("data-real"));
        fs::rename(&data, &real).unwrap();
        fs::create_dir(&data).unwrap();
        let (log, left) = (self.log.clone(), data.clone());
        let at = spawn_blocking(move || {
            let recording = Recording::read(&log, &left);
            let at = fastrand::u64(began..=recording.end());
            image::build(&recording, Cut { at, kept: 0.0, seed: at }, &left);
            at
        });
        let at = at.await.unwrap();
        let whole = self.knows(&self.pushes.answered_until(at)).await;
        whole.map_err(|why| format!("power loss at {at} after {began}: {why}"))?;
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&real, &data).unwrap();
        self.knows_all().await
    }

    /// Started without any fault, it has all that it answered.
    pub(super) async fn knows_all(&self) -> Verdict<()> {
        self.knows(&self.pushes.answered_until(u64::MAX)).await
    }

    /// Started without any fault, it takes none of these for a new one.
    async fn knows(&self, answered: &BTreeMap<String, Answer>) -> Verdict<()> {
        let mut daemon = Daemon::spawn(&self.world.config, self.world.folder.path());
        let started = until(PATIENCE, async || {
            let ended = daemon.has_ended().map(|status| Err(format!("does not start: {status}")));
            if ended.is_some() { ended } else { self.is_ready().await.then_some(Ok(())) }
        });
        started
            .await
            .unwrap_or_else(|| Err("does not start".into()))
            .map_err(|e| self.tells(&e))?;
        self.pushes.learn_url(&self.world);
        for (id, answer) in answered {
            match self.pushes.send(id, answer.size).await {
                Some(StatusCode::OK) => {}
                other => return Err(self.tells(&format!("{id} sent again got {other:?}"))),
            }
        }
        let page = daemon.metrics().await;
        let name = "brevdue_events_duplicate_total{hook=\"innboks\"} ";
        let known = page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        daemon.kill();
        if known == answered.len().to_string() {
            return Ok(());
        }
        Err(self.tells(&format!("knows {known} of {} answered events", answered.len())))
    }

    /// Its last panic or error since it was started, or else its last line.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.world.folder.path().join("brevdue.log")).unwrap();
        let lines: Vec<&str> = log[self.logged..].lines().collect();
        let tells = |line: &&str| line.contains("panicked at") || line.contains("\"ERROR\"");
        let at = lines.iter().rposition(tells).unwrap_or(lines.len().saturating_sub(1));
        let words = lines[at..].iter().take(2).map(|line| line.chars().take(300).collect());
        words.collect::<Vec<String>>().join("\n    ")
    }

    fn tells(&self, what: &str) -> String {
        format!("{what}; its last words:\n    {}", self.last_words())
    }
}

/// When an event was answered 200, as a recording counts time, and how large it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    at: u64,
    size: usize,
}

/// What was pushed.
pub(super) struct Pushes {
    client: reqwest::Client,
    url: Mutex<String>,
    shim: Arc<Shim>,
    answered: Mutex<BTreeMap<String, Answer>>,
    /// What was answered and should not have been.
    pub(super) wrong: Mutex<Vec<String>>,
    /// Nothing can be made durable.
    is_out: AtomicBool,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Pushes {
    fn learn_url(&self, world: &World) {
        *self.url.lock().unwrap() = world.hook("innboks");
    }

    async fn send(&self, id: &str, size: usize) -> Option<StatusCode> {
        let mut body: serde_json::Value = serde_json::from_str(&event(id)).unwrap();
        if size > 0 {
            body["data"] = id.chars().cycle().take(size).collect::<String>().into();
        }
        let url = self.url.lock().unwrap().clone();
        let request = self.client.post(url).header("content-type", "application/json");
        request.body(body.to_string()).send().await.ok().map(|answer| answer.status())
    }

    /// Pushes another event with so much data; None if the connection broke.
    pub(super) async fn push(&self, size: usize) -> Option<StatusCode> {
        let id = format!("n-{}", self.sent.fetch_add(1, Ordering::SeqCst));
        let was_out = self.is_out.load(Ordering::SeqCst);
        let status = self.send(&id, size).await?;
        match status {
            StatusCode::OK => {
                if was_out && self.is_out.load(Ordering::SeqCst) {
                    self.blame(&format!("{id} was answered 200 while nothing could be durable"));
                }
                let answer = Answer { at: self.shim.now(), size };
                self.answered.lock().unwrap().insert(id, answer);
            }
            StatusCode::SERVICE_UNAVAILABLE => {}
            other => self.blame(&format!("{id} was answered {other}")),
        }
        Some(status)
    }

    pub(super) fn blame(&self, what: &str) {
        self.wrong.lock().unwrap().push(what.to_owned());
    }

    pub(super) fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    fn answered_until(&self, at: u64) -> BTreeMap<String, Answer> {
        let mut answered = self.answered.lock().unwrap().clone();
        answered.retain(|_, answer| answer.at <= at);
        answered
    }
}

/// Senders, and a look at readiness beside them.
pub(super) struct Load(JoinSet<()>, Arc<Pushes>);

impl Load {
    /// Three senders of events with so much data.
    pub(super) fn begin(patient: &Patient, size: usize) -> Self {
        let mut tasks = JoinSet::new();
        let pushes = &patient.pushes;
        pushes.stop.store(false, Ordering::SeqCst);
        for _ in 0..3 {
            tasks.spawn(send(Arc::clone(pushes), size));
        }
        tasks.spawn(look(Arc::clone(pushes), patient.admin.clone()));
        Self(tasks, Arc::clone(pushes))
    }

    pub(super) async fn end(self) {
        let Self(tasks, pushes) = self;
        pushes.stop.store(true, Ordering::SeqCst);
        tasks.join_all().await;
    }
}

async fn send(pushes: Arc<Pushes>, size: usize) {
    let mut pace = interval(Duration::from_millis(40));
    while !pushes.stop.load(Ordering::SeqCst) {
        pace.tick().await;
        pushes.push(size).await;
    }
}

/// Ready between two pushes that are refused is wrong.
async fn look(pushes: Arc<Pushes>, admin: reqwest::Client) {
    const REFUSED: Option<StatusCode> = Some(StatusCode::SERVICE_UNAVAILABLE);
    let mut pace = interval(Duration::from_millis(50));
    while !pushes.stop.load(Ordering::SeqCst) {
        pace.tick().await;
        if pushes.push(0).await != REFUSED {
            continue;
        }
        let ready = admin.get("http://localhost/readyz").send().await;
        let ready = ready.is_ok_and(|answer| answer.status().is_success());
        if ready && pushes.push(0).await == REFUSED {
            pushes.blame("/readyz said 200 between two pushes that were refused");
        }
    }
}

/// Looks again and again, at most this long.
pub(super) async fn until<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let mut pace = interval(Duration::from_millis(20));
    let seen = timeout(limit, async {
        loop {
            pace.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    });
    seen.await.ok()
}
