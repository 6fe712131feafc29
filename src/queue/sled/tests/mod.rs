//! The queue on a real disk.

mod delivering;
mod disk;
mod forgetting;
mod limits;
mod operating;
mod packing;
pub(super) mod panics;
mod starting;
mod storing;
mod trouble;
mod wall_clock;

use std::{fs, ops::Range, path::PathBuf, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    DeadLetterBounds, OpenError, Options, Receipt, SledQueue, keys,
    shared::Shared,
    verify::{Report, repair, verify},
};
use crate::{
    clock::{Clock, Timestamp},
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    name::HandlerName,
    queue::{Appended, Delivery, Failure, Health, Page, Queue, QueueError, Seq, StartAt, Verdict},
    store::{Disk, trees::PARTS},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const OLDEST: Page = Page { limit: 1000, newest: false };

/// A store's directory and clock, which outlive the queue.
struct Bench {
    directory: TempDir,
    clock: Clock,
    options: Options,
}

impl Bench {
    fn new(handlers: &[(&str, StartAt)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            directory: directory.path().join("queue"),
            max_bytes: 1 << 29,
            min_free_disk: 0,
            dedup_window: 90 * DAY,
            dedup_max: 1_000_000,
            retain: Duration::ZERO,
            dead_letters: DeadLetterBounds::default(),
            handlers: handlers.iter().map(|(name, at)| (handler(name), *at)).collect(),
        };
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        Self { directory, clock, options }
    }

    /// With one handler, `a`.
    fn one() -> Self {
        Self::new(&[("a", StartAt::Oldest)])
    }

    async fn try_open(&self) -> Result<SledQueue, OpenError> {
        let (options, clock) = (self.options.clone(), self.clock.clone());
        spawn_blocking(move || SledQueue::open(options, clock, Metrics::default())).await.unwrap()
    }

    async fn open(&self) -> SledQueue {
        self.try_open().await.unwrap()
    }

    async fn reopen(&self, queue: SledQueue) -> SledQueue {
        queue.close().await.unwrap();
        self.open().await
    }

    /// Opens it as if its log were too large to be read whole at start.
    async fn try_open_end(&self) -> Result<SledQueue, OpenError> {
        self.start(Disk::default(), 0).await
    }

    async fn open_end(&self) -> SledQueue {
        self.try_open_end().await.unwrap()
    }

    /// Opens it on this disk; a log with more packed bytes than this is not read whole.
    async fn start(&self, disk: Disk, read_whole: u64) -> Result<SledQueue, OpenError> {
        let (options, clock) = (self.options.clone(), self.clock.clone());
        let start = move || {
            let mut shared = Shared::new(options, clock, Metrics::default(), disk);
            shared.read_whole = read_whole;
            SledQueue::start(shared)
        };
        spawn_blocking(start).await.unwrap()
    }

    async fn verified(&self) -> Report {
        let directory = self.options.directory.clone();
        spawn_blocking(move || verify(&directory, &[handler("a")])).await.unwrap().unwrap()
    }

    async fn repaired(&self) -> Report {
        let (directory, now) = (self.options.directory.clone(), self.clock.now());
        spawn_blocking(move || repair(&directory, &[handler("a")], now)).await.unwrap().unwrap()
    }

    /// Changes the closed store behind its back.
    async fn tamper(&self, change: impl FnOnce(&Db) + Send + 'static) {
        let path = self.sled();
        let tamper = move || {
            let db = Db::open(path);
            change(&db);
            db.sled.flush().unwrap();
        };
        spawn_blocking(tamper).await.unwrap();
    }

    fn sled(&self) -> PathBuf {
        self.options.directory.join("store").join("sled")
    }

    fn wal(&self) -> PathBuf {
        self.options.directory.join("store").join("wal")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let blobs = self.sled().join("blobs");
        if let Ok(mut files) = fs::read_dir(blobs) {
            assert!(files.next().is_none(), "sled made a blob, which it never syncs");
        }
    }
}

/// sled itself, as a closed store has it: what is done to it, no write-ahead log knows of.
struct Db {
    sled: sled::Db,
    ids: sled::Tree,
    state: sled::Tree,
    notes: sled::Tree,
}

impl Db {
    fn open(path: PathBuf) -> Self {
        let config = sled::Config::new().path(path).segment_size(2 * 1024 * 1024);
        // Threads of a handle that was just dropped may hold sled's lock a moment longer.
        let sled = (0..10_000_000).find_map(|_| match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::yield_now();
                None
            }
            opened => Some(opened.unwrap()),
        });
        let sled = sled.unwrap();
        let tree = |name: &str| sled.open_tree(name).unwrap();
        Self { ids: tree("ids"), state: tree("state"), notes: tree("store"), sled }
    }

    fn tree(&self, key: &[u8]) -> &sled::Tree {
        match key[0] {
            of if keys::LAYOUT.ids.contains(&of) => &self.ids,
            of if keys::LAYOUT.state.contains(&of) => &self.state,
            _ => &self.sled,
        }
    }

    fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let key = key.as_ref();
        self.tree(key).get(key).unwrap().map(|value| value.to_vec())
    }

    fn insert(&self, key: impl AsRef<[u8]>, value: Vec<u8>) {
        let key = key.as_ref();
        self.tree(key).insert(key, value).unwrap();
    }

    /// Removes an entry that must be there.
    fn remove(&self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        assert!(self.tree(key).remove(key).unwrap().is_some(), "{}", key.escape_ascii());
    }

    /// Flips a bit in the middle of a value.
    fn flip(&self, key: impl AsRef<[u8]>) {
        let mut value = self.get(&key).unwrap();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        self.insert(key, value);
    }

    /// The entries with such keys.
    fn range(&self, range: Range<Vec<u8>>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = self.tree(&range.start).range(range.clone());
        entries.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect()
    }

    /// The key of the first entry of a kind.
    fn first(&self, prefix: u8) -> Vec<u8> {
        self.range(keys::all(prefix)).swap_remove(0).0
    }

    /// The values of all entries.
    fn values(&self) -> Vec<Vec<u8>> {
        let trees = [&self.sled, &self.ids, &self.state, &self.notes];
        trees.into_iter().flat_map(sled::Tree::iter).map(|e| e.unwrap().1.to_vec()).collect()
    }
}

/// The key of a part of a chunked value.
fn part(of: &[u8], index: u32) -> Vec<u8> {
    [&[PARTS, b'|'], of, &index.to_be_bytes()].concat()
}

fn handler(name: &str) -> HandlerName {
    name.parse().unwrap()
}

fn event(id: &str, filling: usize) -> Event {
    let data = "x".repeat(filling);
    let json =
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","data":"{data}"}}"#);
    Event::from_json(Bytes::from(json)).unwrap()
}

fn arrival(id: &str) -> Arrival {
    large(id, 10)
}

fn large(id: &str, filling: usize) -> Arrival {
    let from = vec!["hook".parse().unwrap()];
    Arrival { event: event(id, filling), origin: Origin::Altinn, from, only_by_hook: None }
}

async fn append(queue: &SledQueue, ids: &[&str]) -> Vec<Appended> {
    queue.append(ids.iter().map(|id| arrival(id)).collect()).await.unwrap()
}

async fn take(queue: &SledQueue, name: &str) -> Delivery<Receipt> {
    timeout(Duration::from_secs(60), queue.take(&handler(name))).await.unwrap().unwrap()
}

fn id(delivery: &Delivery<Receipt>) -> &str {
    &delivery.stored.event.attributes().id
}

/// Takes and settles this many deliveries; their ids.
async fn done(queue: &SledQueue, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let delivery = take(queue, "a").await;
        ids.push(id(&delivery).to_owned());
        queue.settle(delivery.receipt, Verdict::Done).await.unwrap();
    }
    ids
}

async fn settle(queue: &SledQueue, name: &str, expected: &str, verdict: Verdict) {
    let delivery = take(queue, name).await;
    assert_eq!(id(&delivery), expected);
    queue.settle(delivery.receipt, verdict).await.unwrap();
}

/// Waits until it is so.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}");
}

async fn healed(queue: &SledQueue) {
    until("it heals", || queue.health() == Health::Writable).await;
}

async fn failing(queue: &SledQueue) {
    until("it fails", || matches!(queue.health(), Health::Failing(_))).await;
}

/// Appends an event once the queue takes it.
async fn append_at_last(queue: &SledQueue, id: &str) {
    let stored = async {
        while queue.append(vec![arrival(id)]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), stored).await.unwrap();
}

async fn ids_in_log(queue: &SledQueue) -> Vec<String> {
    let events = queue.events(OLDEST).await.unwrap();
    events.iter().map(|stored| stored.event.attributes().id.clone()).collect()
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), answer: Some("answer".into()) }
}

fn stored(number: u64) -> Appended {
    Appended::Stored(Seq(number))
}
