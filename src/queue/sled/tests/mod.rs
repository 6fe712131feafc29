//! The store on a real disk.

mod damage;
mod delivering;
mod formats;
mod golden;
mod limits;
mod long;
mod operating;
mod packing;
mod starting;
mod storing;
mod trouble;
mod verifying;

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::timeout};

use super::{DeadLetterBounds, OpenError, Options, Receipt, SledQueue, database::Db};
use crate::{
    clock::{Clock, Timestamp},
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    name::HandlerName,
    queue::{Appended, Delivery, Failure, Page, Queue, Seq, StartAt},
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

    fn sled(&self) -> PathBuf {
        self.options.directory.join("sled")
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
