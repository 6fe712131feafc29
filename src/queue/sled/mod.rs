//! The queue on sled: packed records, one writer, one sync a group.
//!
//! Owns the store's directory. `docs/STORE.md` describes what is in it, and what a crash leaves.

mod ballast;
mod database;
mod dedup;
mod disk;
mod durable_flush;
mod effect;
mod entry;
mod error;
mod forget;
mod fuzzing;
mod gather;
mod group;
mod id_set;
mod ids;
mod journal;
mod keys;
mod listing;
mod load;
mod log;
mod long;
mod mark;
mod op;
mod operator;
mod packing;
mod reader;
mod record;
mod recovery;
mod room;
mod segments;
mod state;
mod tail;
mod upkeep;
pub mod verify;
mod watchdog;
mod window;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

#[doc(hidden)]
pub use self::fuzzing::{fuzz_frame, fuzz_mark, fuzz_value};
pub use self::{error::OpenError, reader::Receipt};
use self::{
    op::{Op, Order},
    reader::Shared,
    watchdog::{PATIENCE, Watchdog},
    writer::Writer,
};
use super::{
    Appended, Bookmark, BookmarkName, Census, DeadLetter, DeadLetterId, Delivery, Failure, Health,
    Page, Queue, QueueError, RawPush, ReplayFrom, Seq, StartAt, StoredEvent, Verdict,
};
use crate::{clock::Clock, event::Arrival, metrics::Metrics, name::HandlerName};

/// Calls that wait for the writer, and bytes that they hold in memory.
const MAILBOX: usize = 4096;
const MAILBOX_KIB: u32 = 32 * 1024;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where; made if it is not there. One process at a time.
    pub directory: PathBuf,
    /// With so many live bytes it is full.
    pub max_bytes: u64,
    /// With less free disk it is full.
    pub min_free_disk: u64,
    /// So long an event is known by its id.
    pub dedup_window: Duration,
    /// At most so many ids are known; the oldest are forgotten.
    pub dedup_max: usize,
    /// So long an event stays in the log, even if all handlers have it.
    pub retain: Duration,
    /// Bounds of the dead letters; the oldest make room.
    pub dead_letters: DeadLetterBounds,
    /// The configured handlers, and where a new one begins.
    pub handlers: Vec<(HandlerName, StartAt)>,
}

/// How many dead letters are kept, undecodable pushes among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterBounds {
    /// So many.
    pub max: usize,
    /// So many bytes of them.
    pub bytes: u64,
    /// So long.
    pub age: Duration,
}

impl Default for DeadLetterBounds {
    fn default() -> Self {
        Self { max: 100_000, bytes: 1 << 30, age: Duration::from_secs(365 * 24 * 3600) }
    }
}

/// A queue kept by sled. Clones are the same queue; with the last one the store ends, too.
#[derive(Debug, Clone)]
pub struct SledQueue {
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Op>,
    room: Arc<Semaphore>,
}

impl SledQueue {
    /// Opens the store and starts its writer. Reads much of it: not for an async thread.
    pub fn open(options: Options, clock: Clock, metrics: Metrics) -> Result<Self, OpenError> {
        Self::start(Shared::new(options, clock, metrics, Watchdog::new(PATIENCE)))
    }

    fn start(shared: Shared) -> Result<Self, OpenError> {
        let shared = Arc::new(shared);
        let (mailbox, receiver) = mpsc::channel(MAILBOX);
        Writer::start(Arc::clone(&shared), receiver)?;
        let permits = usize::try_from(MAILBOX_KIB).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self { shared, mailbox, room: Arc::new(Semaphore::new(permits)) })
    }

    /// Leave to hold so many bytes in the mailbox.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, QueueError> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(MAILBOX_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        self.shared.watchdog.within(async { room.await.map_err(|_| QueueError::Closed) }).await
    }

    fn works(&self) -> Result<(), QueueError> {
        let state = self.shared.state();
        let why = match &state.health {
            _ if state.closed => return Err(QueueError::Closed),
            Health::Writable => self.shared.watchdog.complaint(),
            Health::Failing(why) => Some(why.clone()),
        };
        why.map_or(Ok(()), |why| Err(QueueError::Unavailable(why)))
    }

    async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Op,
    ) -> Result<T, QueueError> {
        self.works()?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.mailbox.send(op(answer)).await.map_err(|_| QueueError::Closed)?;
            // Without an answer the writer ended between its last look at the mailbox and now.
            answered.await.unwrap_or(Err(QueueError::Closed))
        };
        self.shared.watchdog.within(asked).await
    }

    /// It is settled at once; the writer writes it down soon.
    fn done(&self, receipt: Receipt) -> Result<(), QueueError> {
        let lease = receipt.lease;
        let mut state = self.shared.state();
        if state.closed {
            drop(state);
            return Err(QueueError::Closed);
        }
        state.settled(&lease.handler, lease.seq, lease.due);
        if let Some(place) = state.places.get_mut(&lease.handler) {
            if let Some(due) = lease.due {
                place.succeeded.insert(lease.seq, due);
            }
            if place.unwritten == 1 || place.unwritten == writer::MANY {
                self.shared.wake_writer.notify_one();
            }
        }
        drop(state);
        lease.end();
        Ok(())
    }
}

impl Queue for SledQueue {
    type Receipt = Receipt;

    async fn append_with(
        &self,
        arrivals: Vec<Arrival>,
        bookmark: Option<Bookmark>,
    ) -> Result<Vec<Appended>, QueueError> {
        self.works()?;
        if bookmark.as_ref().is_some_and(|mark| mark.place.len() > Bookmark::MAX_PLACE) {
            return Err(QueueError::Full("a bookmark's place is too long"));
        }
        let bytes = arrivals.iter().map(|arrival| arrival.event.json().len()).sum();
        let room = self.room(bytes).await?;
        self.ask(|answer| Op::Append { arrivals, bookmark, answer, room }).await
    }

    async fn bookmark(&self, name: &BookmarkName) -> Result<Option<Bytes>, QueueError> {
        listing::bookmark(&self.shared, name).await
    }

    async fn bury_raw(&self, push: RawPush, failure: Failure) -> Result<(), QueueError> {
        self.works()?;
        let room = self.room(push.body.len()).await?;
        self.ask(|answer| Op::BuryRaw { push, failure, answer, room }).await
    }

    async fn take(&self, handler: &HandlerName) -> Result<Delivery<Receipt>, QueueError> {
        reader::take(&self.shared, handler).await
    }

    async fn settle(&self, receipt: Receipt, verdict: Verdict) -> Result<(), QueueError> {
        if verdict == Verdict::Done {
            return self.done(receipt);
        }
        let receipt = Box::new(receipt);
        self.ask(|answer| Op::Settle { receipt, verdict, answer }).await
    }

    async fn events(&self, page: Page) -> Result<Vec<StoredEvent>, QueueError> {
        listing::events(&self.shared, page).await
    }

    async fn event(&self, seq: Seq) -> Result<StoredEvent, QueueError> {
        listing::event(&self.shared, seq).await
    }

    async fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
        page: Page,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        listing::dead_letters(&self.shared, handler, page).await
    }

    async fn dead_letter(&self, id: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        listing::dead_letter(&self.shared, id).await
    }

    async fn revive(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let id = id.clone();
        self.ask(|answer| Op::Operate(Order::Revive { id, answer })).await
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let id = id.clone();
        self.ask(|answer| Op::Operate(Order::Discard { id, answer })).await
    }

    async fn replay(&self, handler: &HandlerName, from: ReplayFrom) -> Result<u64, QueueError> {
        let handler = handler.clone();
        self.ask(|answer| Op::Operate(Order::Replay { handler, from, answer })).await
    }

    async fn pause(&self, handler: &HandlerName, paused: bool) -> Result<(), QueueError> {
        let handler = handler.clone();
        self.ask(|answer| Op::Operate(Order::Pause { handler, paused, answer })).await
    }

    async fn forget(&self, handler: &HandlerName) -> Result<(), QueueError> {
        let handler = handler.clone();
        self.ask(|answer| Op::Operate(Order::Forget { handler, answer })).await
    }

    async fn census(&self) -> Result<Census, QueueError> {
        listing::census(&self.shared).await
    }

    fn health(&self) -> Health {
        let state = self.shared.state();
        match &state.health {
            _ if state.closed => Health::Failing("it is closed".into()),
            Health::Writable => {
                self.shared.watchdog.complaint().map_or(Health::Writable, Health::Failing)
            }
            failing @ Health::Failing(_) => failing.clone(),
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        let (answer, answered) = oneshot::channel();
        let closed = async {
            let sent = self.mailbox.send(Op::Close { answer }).await;
            sent.map_err(|_| QueueError::Closed)?;
            answered.await.unwrap_or(Err(QueueError::Closed))
        };
        self.shared.watchdog.within(closed).await
    }
}
