//! The queue on the local store: packed records, cursors, one writer.
//!
//! Owns what handlers, retries, dead letters and ids mean; the files are the store's
//! ([`crate::store`]). `docs/STORE.md` describes both, and what a crash leaves.

mod ack_window;
mod codec;
mod dedup;
#[path = "tests/fuzzing.rs"]
mod fuzzing;
mod keys;
mod load;
mod options;
mod read;
mod read_error;
mod shared;
mod state;
pub mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

#[doc(hidden)]
pub use self::fuzzing::{fuzz_frame, fuzz_high_water, fuzz_value};
use self::{
    codec::Value,
    read::{census, listing, take},
    read_error::entry,
    shared::Shared,
    write::{
        command::{Command, Kind},
        commit::{Answer, Commit},
        engine::Engine,
        writer,
    },
};
pub use self::{
    options::{DeadLetterBounds, Options},
    read::take::Receipt,
};
use super::{
    Appended, Bookmark, BookmarkName, Census, DeadLetter, DeadLetterId, Delivery, Health, Intake,
    Page, Queue, QueueError, ReplayFrom, Seq, StoredEvent, Verdict,
};
pub use crate::store::Error as OpenError;
use crate::{
    clock::Clock,
    metrics::Metrics,
    name::HandlerName,
    store::{Disk, directory},
};

/// Calls that wait for the writer, and bytes that they hold in memory.
const MAILBOX: usize = 4096;
const MAILBOX_KIB: u32 = 32 * 1024;

/// A queue kept by sled. Clones are the same queue; with the last one the store ends, too.
#[derive(Debug, Clone)]
pub struct SledQueue {
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    /// Why the store's thread ended, if it ended by itself.
    death: watch::Receiver<Option<String>>,
}

impl SledQueue {
    /// Opens the store and starts its writer. Reads much of it: not for an async thread.
    pub fn open(options: Options, clock: Clock, metrics: Metrics) -> Result<Self, OpenError> {
        Self::start(Shared::new(options, clock, metrics, Disk::default()))
    }

    /// How long [`SledQueue::open`] may take before it is [`OpenError::Stuck`].
    pub fn patience(options: &Options) -> Duration {
        directory::patience(&options.directory)
    }

    fn start(shared: Shared) -> Result<Self, OpenError> {
        let shared = Arc::new(shared);
        let (mailbox, receiver) = mpsc::channel(MAILBOX);
        let death = writer::start(Arc::clone(&shared), receiver)?;
        let permits = usize::try_from(MAILBOX_KIB).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self { shared, mailbox, room: Arc::new(Semaphore::new(permits)), death })
    }

    /// Waits until the store's thread has ended. `Err` says why, if nobody had closed the queue: it
    /// takes nothing any more, and the process is to end.
    pub async fn ended(&self) -> Result<(), QueueError> {
        match self.death.clone().wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => Err(QueueError::Unavailable(why.clone())),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Leave to hold these bytes in the mailbox.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, QueueError> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(MAILBOX_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        self.shared.within(async { room.await.map_err(|_| QueueError::Closed) }).await
    }

    /// Has the writer decide on it, and waits until what it decided is durable.
    async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        decide: impl FnOnce(&mut Commit, &Engine) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.shared.works()?;
        self.send(|answer| Command::call(kind, answer, decide)).await
    }

    async fn send<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.mailbox.send(command(answer)).await.map_err(|_| self.shared.absent())?;
            // Without an answer the writer ended between its last look at the mailbox and now, or
            // it failed.
            answered.await.unwrap_or_else(|_| Err(self.shared.absent()))
        };
        self.shared.within(asked).await
    }

    /// It is settled at once; the writer writes it down soon.
    fn done(&self, receipt: Receipt) -> Result<(), QueueError> {
        let (handler, seq) = (receipt.lease.handler.clone(), receipt.stored.seq.0);
        let mut state = self.shared.state();
        if state.closed {
            // The receipt gives the delivery back, which needs the state.
            drop(state);
            return Err(QueueError::Closed);
        }
        let retry = receipt.lease.end(&mut state);
        if let Some(of) = state.handlers.get_mut(&handler) {
            of.unwritten += 1;
            of.succeeded.extend(retry.map(|retry| (seq, retry.due)));
            if of.unwritten == 1 || of.unwritten == writer::MANY {
                self.shared.wake_writer.notify_one();
            }
        }
        Ok(())
    }
}

impl Queue for SledQueue {
    type Receipt = Receipt;

    async fn take_in(&self, intake: Intake) -> Result<Vec<Appended>, QueueError> {
        self.shared.works()?;
        let Intake { arrivals, undecodable, bookmark } = intake;
        if bookmark.as_ref().is_some_and(|mark| mark.place.len() > Bookmark::MAX_PLACE) {
            return Err(QueueError::Full("a bookmark's place is too long"));
        }
        let bytes: usize = arrivals.iter().map(|arrival| arrival.event.json().len()).sum();
        let raw: usize = undecodable.iter().map(|(push, _)| push.body.len()).sum();
        let room = self.room(bytes + raw).await?;
        let undecodable: Vec<_> = undecodable
            .into_iter()
            .map(|(push, failure)| (push.identity(), push, failure))
            .collect();
        let take_in = move |commit: &mut Commit, engine: &Engine| {
            let buried = commit.undecodable(undecodable)?;
            let appended = commit.append(&engine.dedup, arrivals, bookmark)?;
            for (identity, value) in buried {
                commit.bury_raw(&engine.shared, identity, value);
            }
            drop(room);
            Ok(appended)
        };
        self.call(Kind::NeedsRoom, take_in).await
    }

    async fn bookmark(&self, name: &BookmarkName) -> Result<Option<Bytes>, QueueError> {
        let key = keys::bookmark(name);
        self.shared.read(move |view| entry(view, &key, Bytes::decode)).await
    }

    async fn take(&self, handler: &HandlerName) -> Result<Delivery<Receipt>, QueueError> {
        take::take(&self.shared, handler).await
    }

    async fn settle(&self, receipt: Receipt, verdict: Verdict) -> Result<(), QueueError> {
        let (delay, failure) = match verdict {
            Verdict::Done => return self.done(receipt),
            Verdict::RetryAfter(delay, failure) => (Some(delay), failure),
            Verdict::Bury(failure) => (None, failure),
        };
        let settle = move |commit: &mut Commit, engine: &Engine| {
            commit.settle(&engine.shared, receipt, delay, failure);
            Ok(())
        };
        self.call(Kind::Settles, settle).await
    }

    async fn events(&self, page: Page) -> Result<Vec<StoredEvent>, QueueError> {
        self.shared.read(move |view| listing::events(view, page)).await
    }

    async fn event(&self, seq: Seq) -> Result<StoredEvent, QueueError> {
        let next = self.shared.state().next;
        let event = self.shared.read(move |view| listing::event(view, seq, next)).await?;
        event.ok_or(QueueError::NotFound)
    }

    async fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
        page: Page,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let ids = listing::dead_ids(&self.shared.state(), handler, page)?;
        self.shared.read(move |view| listing::dead_letters(view, ids)).await
    }

    async fn dead_letter_ids(
        &self,
        handler: &HandlerName,
    ) -> Result<Vec<DeadLetterId>, QueueError> {
        let all = Page { limit: usize::MAX, newest: false };
        listing::dead_ids(&self.shared.state(), Some(handler), all)
    }

    async fn dead_letter(&self, id: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        let id = id.clone();
        let letter = self.shared.read(move |view| listing::dead_letter(view, id)).await?;
        letter.ok_or(QueueError::NotFound)
    }

    async fn revive(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let id = id.clone();
        self.call(Kind::Operates, move |commit, engine| commit.revive(engine, id)).await
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let id = id.clone();
        self.call(Kind::Operates, move |commit, engine| commit.discard(&engine.shared, id)).await
    }

    async fn replay(&self, handler: &HandlerName, from: ReplayFrom) -> Result<u64, QueueError> {
        let name = handler.clone();
        self.call(Kind::Operates, move |commit, engine| commit.replay(engine, name, from)).await
    }

    async fn pause(&self, handler: &HandlerName, paused: bool) -> Result<(), QueueError> {
        let name = handler.clone();
        let pause =
            move |commit: &mut Commit, engine: &Engine| commit.pause(&engine.shared, name, paused);
        self.call(Kind::Operates, pause).await
    }

    async fn forget(&self, handler: &HandlerName) -> Result<(), QueueError> {
        self.shared.works()?;
        self.send(|answer| Command::Forget(handler.clone(), answer)).await
    }

    async fn census(&self) -> Result<Census, QueueError> {
        census::census(&self.shared).await
    }

    fn health(&self) -> Health {
        match self.shared.works() {
            Err(QueueError::Unavailable(why)) => return Health::Failing(why),
            Err(error) => return Health::Failing(error.to_string()),
            Ok(()) => {}
        }
        let state = self.shared.state();
        match (&state.damaged, state.full) {
            (Some(why), _) => Health::Damaged(why.clone()),
            (None, Some(limit)) => Health::Full(limit),
            (None, None) => Health::Writable,
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.send(Command::Close).await
    }
}
