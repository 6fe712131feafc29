//! The queue in memory: the rules of the contract as plainly as they can be written.
//!
//! Owns nothing durable. It is what a store on disk is compared with, and what the parts above
//! the queue are tested on. Its dedup window never ends, and it retains every event. The rules
//! themselves are `state`'s; here is who waits for whom.

mod state;

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::sleep};

use self::state::{Lease, Next, State};
use super::{
    Appended, Bookmark, BookmarkName, Census, DeadLetter, DeadLetterId, Delivery, Health, Intake,
    Page, Queue, QueueError, ReplayFrom, Seq, StartAt, StoredEvent, Verdict,
};
use crate::{clock::Clock, name::HandlerName};

/// A [`Queue`] in memory. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct ModelQueue(Arc<Shared>);

/// A delivery leased from a [`ModelQueue`]; dropped, it gives the lease back.
pub struct ModelReceipt {
    queue: Arc<Shared>,
    handler: HandlerName,
    lease: Lease,
    settled: bool,
}

/// A delivery, or how long to wait for one.
type Found = Result<Delivery<ModelReceipt>, Option<Duration>>;

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Rung whenever something may have become due, or calls begin to be refused.
    changed: Notify,
}

impl ModelQueue {
    /// An empty log with these handlers.
    pub fn new(handlers: &[(HandlerName, StartAt)], clock: Clock) -> Self {
        Self::with_state(State::default(), handlers, clock)
    }

    /// What a store is after a restart with these handlers: leases are gone, the rest is there.
    /// Receipts from before settle nothing here.
    #[must_use]
    pub fn reopened(&self, handlers: &[(HandlerName, StartAt)]) -> Self {
        Self::with_state(self.0.lock().clone(), handlers, self.0.clock.clone())
    }

    /// What a store is after a crash: as after a restart, but it may have forgotten that these
    /// were [`Verdict::Done`]. `None` if one of them was not, or not since the last restart.
    #[must_use]
    pub fn crashed(
        &self,
        handlers: &[(HandlerName, StartAt)],
        forgotten: &[(HandlerName, Seq)],
    ) -> Option<Self> {
        let mut state = self.0.lock().clone();
        let done = forgotten.iter().all(|(handler, seq)| state.forget_done(handler, *seq));
        done.then(|| Self::with_state(state, handlers, self.0.clock.clone()))
    }

    /// From now on, calls that write get this error, and [`Queue::take`] gets it if it is
    /// [`QueueError::Unavailable`]: how a full or broken store looks from outside. `None` heals it.
    pub fn refuse(&self, error: Option<QueueError>) {
        self.0.lock().refusal = error;
        self.0.changed.notify_waiters();
    }

    /// From now on it says that this part of it is damaged; a model loses nothing by it. `None`
    /// repairs it.
    pub fn damage(&self, what: Option<String>) {
        self.0.lock().damage = what;
    }

    fn with_state(mut state: State, handlers: &[(HandlerName, StartAt)], clock: Clock) -> Self {
        state.reopen(handlers);
        Self(Arc::new(Shared { clock, state: Mutex::new(state), changed: Notify::new() }))
    }

    /// The state, unless the queue is closed.
    fn open(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.0.lock();
        if state.closed { Err(QueueError::Closed) } else { Ok(state) }
    }

    /// The state, unless the store does not work at all. A full one still delivers.
    fn delivering(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.open()?;
        match &state.refusal {
            Some(error @ QueueError::Unavailable(_)) => Err(error.clone()),
            _ => Ok(state),
        }
    }

    /// The next delivery, or how long there is none (`None`: until something changes).
    fn next(&self, handler: &HandlerName) -> Result<Found, QueueError> {
        let now = self.0.clock.now();
        let mut state = self.delivering()?;
        let lease = match state.lease(handler, now)? {
            Next::Lease(lease) => lease,
            Next::Wait(time) => return Ok(Err(time)),
        };
        let stored = state.log.get(&lease.seq).cloned().ok_or(QueueError::NotFound)?;
        let (queue, handler) = (self.0.clone(), handler.clone());
        let (attempt, since) = (lease.attempt, lease.since);
        let receipt = ModelReceipt { queue, handler, lease, settled: false };
        Ok(Ok(Delivery { stored, attempt, since, receipt }))
    }

    /// The state, unless the store does not take writes.
    fn writable(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.open()?;
        match &state.refusal {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic, so a poisoned state is a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of `all`, oldest first, that a page shows.
fn page<T>(mut all: Vec<T>, page: Page) -> Vec<T> {
    if page.newest {
        all.split_off(all.len().saturating_sub(page.limit))
    } else {
        all.truncate(page.limit);
        all
    }
}

impl Queue for ModelQueue {
    type Receipt = ModelReceipt;

    async fn take_in(&self, intake: Intake) -> Result<Vec<Appended>, QueueError> {
        let Intake { arrivals, undecodable, bookmark } = intake;
        let now = self.0.clock.now();
        let appended = {
            let mut state = self.writable()?;
            if let Some(Bookmark { name, place }) = bookmark {
                if place.len() > Bookmark::MAX_PLACE {
                    return Err(QueueError::Full("a bookmark's place is too long"));
                }
                state.bookmarks.insert(name, place);
            }
            for (push, failure) in undecodable {
                state.bury_raw(push, failure, now);
            }
            arrivals.into_iter().map(|arrival| state.append(arrival, now)).collect()
        };
        self.0.changed.notify_waiters();
        Ok(appended)
    }

    async fn bookmark(&self, name: &BookmarkName) -> Result<Option<Bytes>, QueueError> {
        Ok(self.open()?.bookmarks.get(name).cloned())
    }

    async fn take(&self, handler: &HandlerName) -> Result<Delivery<ModelReceipt>, QueueError> {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            // Registered before the look, so that no change between look and wait is missed.
            changed.as_mut().enable();
            match self.next(handler)? {
                Ok(delivery) => return Ok(delivery),
                Err(None) => changed.await,
                Err(Some(time)) => tokio::select! {
                    () = changed => {}
                    () = sleep(time) => {}
                },
            }
        }
    }

    async fn settle(&self, mut receipt: ModelReceipt, verdict: Verdict) -> Result<(), QueueError> {
        let now = self.0.clock.now();
        {
            // On an error the receipt is dropped after the lock, and gives its lease back.
            let mut state = self.delivering()?;
            receipt.settled = true;
            state.settle(&receipt.handler, receipt.lease, verdict, now);
        }
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn events(&self, wanted: Page) -> Result<Vec<StoredEvent>, QueueError> {
        let state = self.open()?;
        Ok(page(state.log.values().map(|stored| StoredEvent::clone(stored)).collect(), wanted))
    }

    async fn event(&self, seq: Seq) -> Result<StoredEvent, QueueError> {
        let state = self.open()?;
        state.log.get(&seq).map(|stored| StoredEvent::clone(stored)).ok_or(QueueError::NotFound)
    }

    async fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
        wanted: Page,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(page(self.open()?.dead_letters(handler)?, wanted))
    }

    async fn dead_letter_ids(
        &self,
        handler: &HandlerName,
    ) -> Result<Vec<DeadLetterId>, QueueError> {
        let letters = self.open()?.dead_letters(Some(handler))?;
        Ok(letters.into_iter().map(|letter| letter.id).collect())
    }

    async fn dead_letter(&self, id: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        self.open()?.dead_letter(id).cloned()
    }

    async fn revive(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let now = self.0.clock.now();
        self.writable()?.revive(id, now)?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        self.writable()?.discard(id)
    }

    async fn replay(&self, handler: &HandlerName, from: ReplayFrom) -> Result<u64, QueueError> {
        let again = self.writable()?.replay(handler, from)?;
        self.0.changed.notify_waiters();
        Ok(again)
    }

    async fn pause(&self, handler: &HandlerName, paused: bool) -> Result<(), QueueError> {
        self.writable()?.pause(handler, paused)?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn forget(&self, handler: &HandlerName) -> Result<(), QueueError> {
        self.writable()?.forget(handler)
    }

    async fn census(&self) -> Result<Census, QueueError> {
        Ok(self.open()?.census())
    }

    fn health(&self) -> Health {
        let state = self.0.lock();
        match (&state.refusal, &state.damage) {
            _ if state.closed => Health::Failing(QueueError::Closed.to_string()),
            (None, None) => Health::Writable,
            (None | Some(QueueError::Full(_)), Some(what)) => Health::Damaged(what.clone()),
            (Some(QueueError::Full(limit)), None) => Health::Full(limit),
            (Some(error), _) => Health::Failing(error.to_string()),
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.0.lock().closed = true;
        self.0.changed.notify_waiters();
        Ok(())
    }
}

impl Drop for ModelReceipt {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.lock().unlease(&self.handler, self.lease.seq);
            self.queue.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for ModelReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModelReceipt").field(&self.handler).field(&self.lease).finish()
    }
}

#[cfg(test)]
mod tests;
