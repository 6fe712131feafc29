//! Stores under test, and what both tests say about them.

use std::{fs, future::Future, io, path::Path, pin::pin, time::Duration};

use brevdue::{
    clock::{Clock, Timestamp},
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    name::HandlerName,
    queue::{
        Delivery, Failure, HandlerCensus, Page, Queue, StartAt,
        model::ModelQueue,
        sled::{
            DeadLetterBounds, Options, SledQueue,
            verify::{Report, verify},
        },
    },
};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::timeout};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const ALL: Page = Page { limit: 100_000, newest: false };
const DAY: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(60);

/// Handlers, and where a new one begins.
pub(crate) type Handlers = [(HandlerName, StartAt)];

/// A kind of store: something that can be opened again and again.
pub(crate) trait Store {
    type Queue: Queue;

    /// The clock of all its queues.
    fn clock(&self) -> &Clock;

    /// Opens it: the first time empty, later with what it held when it was closed.
    fn open(&mut self, handlers: &Handlers) -> impl Future<Output = Self::Queue>;
}

pub(crate) fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_800_000_000_000))
}

/// The reference model.
pub(crate) struct Memory {
    clock: Clock,
    last: Option<ModelQueue>,
}

impl Memory {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, last: None }
    }

    /// It went on as this one.
    pub(crate) fn is_now(&mut self, queue: &ModelQueue) {
        self.last = Some(queue.clone());
    }
}

impl Store for Memory {
    type Queue = ModelQueue;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn open(&mut self, handlers: &Handlers) -> ModelQueue {
        let queue = match &self.last {
            None => ModelQueue::new(handlers, self.clock.clone()),
            Some(last) => last.reopened(handlers),
        };
        self.last.insert(queue).clone()
    }
}

/// sled in a directory.
pub(crate) struct Disk {
    clock: Clock,
    retain: Duration,
    directory: TempDir,
}

impl Disk {
    /// With `retain`, every event stays in the log; else it goes when all handlers have it.
    pub(crate) fn new(clock: Clock, retain: bool) -> Self {
        let retain = if retain { 1000 * DAY } else { Duration::ZERO };
        Self { clock, retain, directory: tempfile::tempdir().unwrap() }
    }

    /// What a crash now leaves: a copy of its files while it is open. A crash stops everything at
    /// one moment, so a copy during which the database was written is none, and is made again.
    pub(crate) fn crashed(&self) -> Self {
        let (clock, retain) = (self.clock.clone(), self.retain);
        loop {
            let directory = tempfile::tempdir().unwrap();
            let before = written(self.directory.path());
            copy(self.directory.path(), directory.path()).unwrap();
            if written(self.directory.path()) == before {
                return Self { clock, retain, directory };
            }
        }
    }

    /// What a verification finds; it must not be open.
    pub(crate) async fn verified(&self) -> Report {
        let directory = self.directory.path().join("queue");
        spawn_blocking(move || verify(&directory, &[])).await.unwrap().unwrap()
    }

    fn options(&self, handlers: &Handlers) -> Options {
        Options {
            directory: self.directory.path().join("queue"),
            max_bytes: 1 << 30,
            min_free_disk: 0,
            dedup_window: 90 * DAY,
            dedup_max: 1_000_000,
            retain: self.retain,
            dead_letters: DeadLetterBounds::default(),
            handlers: handlers.to_vec(),
        }
    }
}

impl Store for Disk {
    type Queue = SledQueue;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn open(&mut self, handlers: &Handlers) -> SledQueue {
        let (options, clock) = (self.options(handlers), self.clock.clone());
        let open = move || SledQueue::open(options, clock, Metrics::default());
        spawn_blocking(open).await.unwrap().unwrap()
    }
}

/// When and how far the database was written.
fn written(directory: &Path) -> impl PartialEq {
    let data = fs::metadata(directory.join("queue/store/sled/db")).unwrap();
    (data.len(), data.modified().unwrap())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else if let Err(error) = fs::copy(entry.path(), to)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

pub(crate) fn handler(name: &str) -> HandlerName {
    name.parse().unwrap()
}

/// These handlers, from now on.
pub(crate) fn handlers(names: &[&str]) -> Vec<(HandlerName, StartAt)> {
    names.iter().map(|name| (handler(name), StartAt::Now)).collect()
}

/// An event by the first of `from`.
pub(crate) fn arrival(id: &str, from: &[&str], only_by_hook: bool, filling: usize) -> Arrival {
    let data = "x".repeat(filling);
    let json =
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","data":"{data}"}}"#);
    let from: Vec<_> = from.iter().map(|name| name.parse().unwrap()).collect();
    Arrival {
        event: Event::from_json(json.into()).unwrap(),
        origin: Origin::Altinn,
        only_by_hook: from.first().filter(|_| only_by_hook).cloned(),
        from,
    }
}

pub(crate) fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), answer: Some("answer".into()) }
}

/// What there is to take now; waits only where the store shows that it is on its way.
pub(crate) async fn try_take<Q: Queue>(
    queue: &Q,
    name: &HandlerName,
) -> Option<Delivery<Q::Receipt>> {
    let before = at(queue, name).await.in_flight;
    let mut take = pin!(queue.take(name));
    if let Some(taken) = take.as_mut().now_or_never() {
        return Some(taken.unwrap());
    }
    // A store leases before it reads, so nothing is to be had if nothing more is in flight.
    if at(queue, name).await.in_flight == before {
        return None;
    }
    Some(timeout(PATIENCE, take).await.unwrap().unwrap())
}

/// The next delivery, which must come.
pub(crate) async fn take<Q: Queue>(queue: &Q, name: &str) -> Delivery<Q::Receipt> {
    timeout(PATIENCE, queue.take(&handler(name))).await.unwrap().unwrap()
}

/// How far a handler is.
pub(crate) async fn at<Q: Queue>(queue: &Q, name: &HandlerName) -> HandlerCensus {
    let census = queue.census().await.unwrap();
    census.handlers.into_iter().find(|at| at.name == *name).unwrap()
}

/// The id that its sender gave it.
pub(crate) fn id<R>(delivery: &Delivery<R>) -> &str {
    &delivery.stored.event.attributes().id
}
