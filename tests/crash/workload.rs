//! A process that uses all of the queue and keeps a ledger of it: this test program, run again.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use brevdue::{
    clock::Clock,
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    queue::{
        DeadLetterId, Failure, Queue, QueueError, RawPush, StartAt, Verdict,
        sled::{DeadLetterBounds, Options, SledQueue},
    },
};
use bytes::Bytes;
use fastrand::Rng;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Expected, HANDLERS, Ledger},
    verify::verify,
};

/// In the environment of the process that is to be the workload.
const FOLDER: &str = "BREVDUE_WORKLOAD_FOLDER";
const LEDGER: &str = "BREVDUE_WORKLOAD_LEDGER";
const SEED: &str = "BREVDUE_WORKLOAD_SEED";
const EVENTS: &str = "BREVDUE_WORKLOAD_EVENTS";
const SICK: &str = "BREVDUE_WORKLOAD_SICK";

const SENDERS: usize = 6;
/// Times that the queue is opened.
const OPENINGS: u64 = 3;
/// Tries on a sick disk, and the pause after a call that it did not do.
const OPENING_TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// The store is in its folder `queue`.
    pub(crate) folder: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) seed: u64,
    /// About so many each time that it is opened.
    pub(crate) events: usize,
    /// The disk may fail: then calls that were refused are not made again, and what was lost with
    /// the store's end is left to the next process.
    pub(crate) sick: bool,
}

impl Workload {
    /// A process that does this, to be started.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "workload::a_workload_leaves_what_its_ledger_says", "--nocapture"])
            .env(FOLDER, &self.folder)
            .env(LEDGER, &self.ledger)
            .env(SEED, self.seed.to_string())
            .env(EVENTS, self.events.to_string());
        if self.sick {
            command.env(SICK, "yes");
        }
        command
    }

    /// If this process is to be one.
    fn asked_for() -> Option<Self> {
        let value = |name| std::env::var(name).ok();
        Some(Self {
            folder: value(FOLDER)?.into(),
            ledger: value(LEDGER)?.into(),
            seed: value(SEED)?.parse().unwrap(),
            events: value(EVENTS)?.parse().unwrap(),
            sick: value(SICK).is_some(),
        })
    }

    async fn run(&self) {
        let file = File::options().create(true).append(true).open(&self.ledger).unwrap();
        let ledger = Arc::new(Ledger::new(file, self.seed));
        for opening in 0..OPENINGS {
            let queue = self.open().await;
            let seed = self.seed * 1000 + opening * 100;
            let user = User {
                queue,
                ledger: Arc::clone(&ledger),
                stop: CancellationToken::new(),
                sick: self.sick,
            };
            user.use_it(seed, self.events).await;
            let close = ledger.ask("close");
            if user.took(user.queue.close().await).await.is_some() {
                ledger.told(close);
            }
        }
    }

    /// On a sick disk that can fail for a while.
    async fn open(&self) -> SledQueue {
        let mut why = String::new();
        for _ in 0..OPENING_TRIES {
            let options = options(&self.folder);
            let opening =
                spawn_blocking(|| SledQueue::open(options, Clock::System, Metrics::default()));
            match opening.await.unwrap() {
                Ok(queue) => return queue,
                Err(error) => {
                    assert!(self.sick, "{error}");
                    why = error.to_string();
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("it never opens: {why}");
    }
}

/// The store's options, the same wherever it is opened.
pub(crate) fn options(folder: &Path) -> Options {
    Options {
        directory: folder.join("queue"),
        max_bytes: 1 << 40,
        min_free_disk: 0,
        dedup_window: Duration::from_secs(90 * 24 * 3600),
        dedup_max: 1_000_000,
        retain: Duration::ZERO,
        dead_letters: DeadLetterBounds::default(),
        handlers: HANDLERS.iter().map(|name| (name.parse().unwrap(), StartAt::Oldest)).collect(),
    }
}

/// An event whose whole content follows from its id, which ends in the length of its data.
pub(crate) fn event(id: &str) -> Event {
    let length: usize = id.rsplit('-').next().unwrap().parse().unwrap();
    let data: String = id.chars().cycle().take(length).collect();
    let json =
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","data":"{data}"}}"#);
    Event::from_json(Bytes::from(json)).unwrap()
}

pub(crate) fn arrival(id: &str) -> Arrival {
    let from = vec!["hook".parse().unwrap()];
    Arrival { event: event(id), origin: Origin::Altinn, from, only_by_hook: None }
}

pub(crate) fn raw(name: &str) -> RawPush {
    let body = Bytes::from(name.repeat(50));
    RawPush { hook: "hook".parse().unwrap(), media_type: "text/plain".into(), body }
}

fn failure() -> Failure {
    Failure { reason: "it said no".into(), answer: Some("no ".repeat(100)) }
}

/// Whoever uses the queue.
#[derive(Clone)]
struct User {
    queue: SledQueue,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    sick: bool,
}

impl User {
    async fn use_it(&self, seed: u64, events: usize) {
        let mut handlers = JoinSet::new();
        for (number, name) in ["a", "a", "a", "b"].into_iter().enumerate() {
            let chance = Rng::with_seed(seed + 50 + u64::try_from(number).unwrap());
            handlers.spawn(self.clone().handle(name, chance));
        }
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let chance = Rng::with_seed(seed + u64::try_from(sender).unwrap());
            senders.spawn(self.clone().send(chance, events / SENDERS));
        }
        for joined in senders.join_all().await {
            assert!(joined > 0 || self.sick);
        }
        self.stop.cancel();
        handlers.join_all().await;
    }

    /// What a call gave. None if a sick disk had it refused; after the store's end all stop.
    async fn took<T>(&self, result: Result<T, QueueError>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(error) => assert!(self.sick, "{error}"),
        }
        tokio::time::sleep(PAUSE).await;
        None
    }

    /// Sends events by one and in batches, some of them twice, and now and then what is none.
    async fn send(self, mut chance: Rng, events: usize) -> usize {
        let Self { queue, ledger, .. } = &self;
        let mut sent = 0;
        let mut known = Vec::new();
        while sent < events && !self.stop.is_cancelled() {
            if chance.u8(..) < 8 {
                let name = format!("raw-{}", chance.u64(..));
                let asked = ledger.ask(&format!("raw {name}"));
                if self.took(queue.bury_raw(raw(&name), failure()).await).await.is_some() {
                    ledger.told(asked);
                }
            }
            let batch = if chance.u8(..) < 40 { chance.usize(2..30) } else { 1 };
            let mut ids: Vec<String> = (0..batch).map(|_| new_id(&mut chance)).collect();
            if chance.u8(..) < 20 {
                ids.extend(known.get(chance.usize(0..=known.len())).cloned());
            }
            let asked = ledger.ask(&format!("append {}", ids.join(" ")));
            match queue.append(ids.iter().map(|id| arrival(id)).collect()).await {
                // One of them is larger than what the store keeps.
                Err(QueueError::Full(_)) => continue,
                Err(QueueError::Closed) if self.sick => self.stop.cancel(),
                result => {
                    if self.took(result).await.is_some() {
                        ledger.told(asked);
                        known.extend(ids.iter().cloned());
                    }
                }
            }
            sent += ids.len();
        }
        sent
    }

    /// Takes deliveries and ends them in every way.
    async fn handle(self, name: &'static str, mut chance: Rng) {
        let Self { queue, ledger, .. } = &self;
        let handler = name.parse().unwrap();
        loop {
            let taken = tokio::select! {
                () = self.stop.cancelled() => return,
                taken = queue.take(&handler) => taken,
            };
            let Some(taken) = self.took(taken).await else { continue };
            let (id, attempt) = (taken.stored.event.attributes().id.clone(), taken.attempt);
            let (verb, verdict) = match chance.u8(..) {
                0..30 => {
                    let delay = Duration::from_millis(chance.u64(0..60));
                    ("retry", Verdict::RetryAfter(delay, failure()))
                }
                30..35 => ("retry", Verdict::RetryAfter(Duration::from_secs(900), failure())),
                35..50 => ("bury", Verdict::Bury(failure())),
                50..55 => continue,
                _ => ("done", Verdict::Done),
            };
            let asked = ledger.ask(&format!("{verb} {name} {id} {attempt}"));
            if self.took(queue.settle(taken.receipt, verdict).await).await.is_none() {
                continue;
            }
            ledger.told(asked);
            if verb == "bury" && chance.bool() {
                let letter = DeadLetterId::Delivery(name.parse().unwrap(), taken.stored.seq);
                let verb = if chance.bool() { "revive" } else { "discard" };
                let asked = ledger.ask(&format!("{verb} {name} {id} {attempt}"));
                let done = match verb {
                    "revive" => queue.revive(&letter).await,
                    _ => queue.discard(&letter).await,
                };
                if self.took(done).await.is_some() {
                    ledger.told(asked);
                }
            }
        }
    }
}

fn new_id(chance: &mut Rng) -> String {
    let length = match chance.u8(..) {
        0..180 => chance.usize(300..1000),
        180..240 => chance.usize(1000..8000),
        240..253 => chance.usize(8000..40_000),
        253..255 => chance.usize(60_000..72_000),
        255 => chance.usize(100_000..300_000),
    };
    format!("{:016x}-{length}", chance.u64(..))
}

#[test]
fn a_workload_leaves_what_its_ledger_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(workload) = Workload::asked_for() {
        return runtime.block_on(workload.run());
    }
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let workload =
        Workload { folder: folder.path().into(), ledger, seed: 1, events: 200, sick: false };
    runtime.block_on(workload.run());
    let expected = Expected::read(&std::fs::read_to_string(&workload.ledger).unwrap());
    assert!(expected.stored.len() >= 500, "{}", expected.stored.len());
    verify(folder.path(), &expected).expect("whole");
}
