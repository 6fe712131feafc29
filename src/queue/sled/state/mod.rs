//! What the queue knows without asking the disk: cursors, leases, due times, sizes.
//!
//! Nothing here waits or does I/O.

mod dead_letters;
pub(super) mod handler;
pub(super) mod recent;
pub(super) mod retries;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::{
    dead_letters::DeadLetters,
    handler::{HandlerState, Job},
    recent::{RecentCache, event_in},
    retries::{Retries, Retry},
};
use super::{codec::values::Cursor, load::Contents, options::Options};
use crate::{
    clock::{Clock, Timestamp},
    name::HandlerName,
    queue::{DeadLetterId, QueueError, StartAt, StoredEvent},
};

/// The whole.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Why the store does not work, if it does not.
    pub(super) failing: Option<String>,
    /// A read failed as only a broken store fails: the writer is to reopen it.
    pub(super) broken: bool,
    /// Why no events come in, if none do for want of room.
    pub(super) full: Option<&'static str>,
    /// What is damaged, if something that was read is.
    pub(super) damaged: Option<String>,
    pub(super) closed: bool,
    /// The first event in the log.
    pub(super) oldest: u64,
    /// The number that the next event gets.
    pub(super) next: u64,
    pub(super) next_raw: u64,
    /// Bytes that the log takes.
    pub(super) log_bytes: u64,
    pub(super) dedup_ids: u64,
    pub(super) handlers: BTreeMap<HandlerName, HandlerState>,
    pub(super) dead: DeadLetters,
    pub(super) recent: RecentCache,
}

impl State {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let failing = Some("it is being opened".into());
        Self { failing, oldest: 1, next: 1, next_raw: 1, ..Self::default() }
    }

    /// Takes over what stands on disk. Leases and settled marks that are here already are kept.
    pub(super) fn install(&mut self, contents: Contents, options: &Options, clock: &Clock) {
        self.oldest = contents.bounds.oldest;
        self.next = contents.bounds.next;
        self.next_raw = contents.next_raw;
        let retries = contents.retries.iter().map(|(_, _, waiting)| waiting.bytes);
        let dead = contents.dead.iter().map(|(_, _, bytes)| *bytes);
        self.log_bytes = contents.live_bytes.saturating_sub(retries.chain(dead).sum());
        self.recent = RecentCache::default();
        self.install_cursors(contents.cursors, options, clock.now());
        for handler in self.handlers.values_mut() {
            handler.retries = Retries::default();
            handler.reading.clear();
        }
        let (now, steady) = (clock.now(), clock.steady());
        for (name, seq, waiting) in contents.retries {
            let handler = self.handlers.entry(name).or_default();
            if let Some(due) = handler.succeeded.get_mut(&seq) {
                *due = waiting.due.as_millis();
                continue;
            }
            // Out of the window's reach when its cursor was last written.
            handler.window.settle(seq);
            let ready = steady.saturating_add(waiting.left(now));
            let due = waiting.due.as_millis();
            handler.retries.insert(seq, Retry { due, ready, bytes: waiting.bytes });
            if handler.leased.contains(&seq) {
                handler.retries.lease(seq);
            }
        }
        self.dead = DeadLetters::default();
        for (id, at, bytes) in contents.dead {
            if let DeadLetterId::Delivery(name, _) = &id {
                // Its cursor may be lost.
                self.handlers.entry(name.clone()).or_default();
            }
            self.dead.insert(id, at, bytes);
        }
        for (number, identity) in contents.raw {
            self.dead.identify(number, identity);
        }
        self.wake_all();
    }

    fn install_cursors(
        &mut self,
        cursors: BTreeMap<HandlerName, Cursor>,
        options: &Options,
        now: Timestamp,
    ) {
        for (name, cursor) in cursors {
            let handler = self.handlers.entry(name).or_default();
            handler.window.merge(&cursor.window);
            (handler.seen, handler.paused) = (cursor.seen, cursor.paused);
        }
        for (name, start_at) in &options.handlers {
            let (oldest, next) = (self.oldest, self.next);
            let handler = self.handlers.entry(name.clone()).or_insert_with(|| match start_at {
                StartAt::Now => HandlerState::starting_at(next),
                StartAt::Oldest => HandlerState::starting_at(oldest),
            });
            handler.configured = true;
            handler.seen = now;
            handler.window.raise(oldest);
            handler.unwritten += 1;
        }
    }

    /// The next job of a handler, leased to the caller.
    pub(super) fn job(&mut self, name: &HandlerName, now: Duration) -> Result<Job, QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let end = self.next;
        self.handler(name).map(|handler| handler.job(now, end))
    }

    /// A configured handler.
    pub(super) fn handler(&mut self, name: &HandlerName) -> Result<&mut HandlerState, QueueError> {
        let handler = self.handlers.get_mut(name).filter(|handler| handler.configured);
        handler.ok_or(QueueError::NotFound)
    }

    /// The event with this number, if memory holds it.
    pub(super) fn cached(&self, name: &HandlerName, seq: u64) -> Option<Arc<StoredEvent>> {
        let read = self.handlers.get(name)?.reading(seq);
        read.or_else(|| event_in(&self.recent.groups, seq))
    }

    /// A delivery has ended, for good or to go on as a retry or a dead letter; the retry that it was.
    pub(super) fn settled(&mut self, name: &HandlerName, seq: u64) -> Option<Retry> {
        self.handlers.get_mut(name)?.settled(seq)
    }

    /// A delivery waits for its next attempt.
    pub(super) fn retries(&mut self, name: &HandlerName, seq: u64, retry: Retry) {
        let handler = self.handlers.entry(name.clone()).or_default();
        handler.retries.insert(seq, retry);
        handler.wake.notify_waiters();
    }

    /// Bytes that the log, the waiting retries and the dead letters take.
    pub(super) fn live_bytes(&self) -> u64 {
        let retries: u64 = self.handlers.values().map(|handler| handler.retries.bytes()).sum();
        self.log_bytes + retries + self.dead.bytes()
    }

    /// Everything below is settled by all configured handlers.
    pub(super) fn settled_by_all(&self) -> u64 {
        let configured = self.handlers.values().filter(|handler| handler.configured);
        configured.map(|handler| handler.window.low()).min().unwrap_or(self.next).min(self.next)
    }

    /// Deliveries of one handler that wait to be written down, at most.
    pub(super) fn unwritten(&self) -> usize {
        self.handlers.values().map(|handler| handler.unwritten).max().unwrap_or(0)
    }

    pub(super) fn wake_all(&self) {
        for handler in self.handlers.values() {
            handler.wake.notify_waiters();
        }
    }
}
