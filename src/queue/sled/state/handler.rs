//! One handler's way through the log: what it has settled, what is in flight, what waits.
//!
//! Owns which delivery is next for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    recent::{Group, event_in},
    retries::{Retries, Retry},
};
use crate::{
    clock::Timestamp,
    queue::{
        StoredEvent,
        sled::{ack_window::AckWindow, codec::values::Cursor},
    },
};

/// Reads of the log that a handler's deliveries are served from at once.
const READING: usize = 3;

/// One handler.
#[derive(Debug, Default)]
pub(crate) struct HandlerState {
    pub(crate) configured: bool,
    pub(crate) paused: bool,
    pub(crate) seen: Timestamp,
    pub(crate) window: AckWindow,
    pub(crate) retries: Retries,
    /// Numbers in flight, of events and of retries.
    pub(crate) leased: BTreeSet<u64>,
    /// Deliveries settled since its cursor was last written.
    pub(crate) unwritten: usize,
    /// Retries that succeeded, not yet deleted on disk: number, due time.
    pub(crate) succeeded: BTreeMap<u64, u64>,
    /// The groups that it reads from, once the recent cache has gone on without it.
    pub(super) reading: VecDeque<VecDeque<Group>>,
    /// Held by the one that reads the next groups.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Wakes those who wait for a delivery.
    pub(crate) wake: Arc<Notify>,
    /// Of the events from here on, none was given out but those that are in flight or settled.
    next: u64,
}

/// What a handler does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Deliver this event for the first time.
    Event(u64),
    /// Deliver this event again: number, due time.
    Retry(u64, u64),
    /// Wait, at most until steady time has come so far.
    Wait(Option<Duration>),
}

impl HandlerState {
    /// One that begins with this event.
    pub(crate) fn starting_at(low: u64) -> Self {
        Self { window: AckWindow::starting_at(low), ..Self::default() }
    }

    /// Its next job, of a log that ends before `end`.
    pub(super) fn job(&mut self, now: Duration, end: u64) -> Job {
        if self.paused {
            return Job::Wait(None);
        }
        let first = self.retries.next();
        if let Some((seq, retry)) = first.filter(|(_, retry)| retry.ready <= now) {
            self.retries.lease(seq);
            self.leased.insert(seq);
            return Job::Retry(seq, retry.due);
        }
        self.next = self.next.max(self.window.low());
        while self.next < end && self.window.reaches(self.next) {
            let seq = self.next;
            self.next += 1;
            if !self.window.contains(seq) && self.leased.insert(seq) {
                return Job::Event(seq);
            }
        }
        Job::Wait(first.map(|(_, retry)| retry.ready))
    }

    /// Groups were read, in order. Those before may still be wanted by deliveries that overtake.
    pub(crate) fn read(&mut self, groups: VecDeque<Group>) {
        self.reading.truncate(READING - 1);
        self.reading.push_front(groups);
    }

    /// The event with this number, if it was read.
    pub(super) fn reading(&self, seq: u64) -> Option<Arc<StoredEvent>> {
        self.reading.iter().find_map(|groups| event_in(groups, seq))
    }

    /// A delivery was given back: it is given out again, as the retry that it is by now, or as an event.
    pub(crate) fn release(&mut self, seq: u64) {
        self.leased.remove(&seq);
        if !self.retries.give_back(seq) {
            self.next = self.next.min(seq);
        }
        self.wake.notify_waiters();
    }

    /// A delivery has ended; the retry that it was, if it was one. What was given out as an event can
    /// be a retry by now: one that was written although its caller heard that it was not.
    pub(super) fn settled(&mut self, seq: u64) -> Option<Retry> {
        self.leased.remove(&seq);
        let retry = self.retries.remove(seq);
        if retry.is_none() {
            let low = self.window.low();
            self.window.settle(seq);
            if self.window.low() != low {
                // Someone may wait at the far end of the window.
                self.wake.notify_waiters();
            }
        }
        retry
    }

    /// What is written down of it.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { window: self.window.clone(), seen: self.seen, paused: self.paused }
    }

    /// Events that it has not tried, and all in flight.
    pub(crate) fn pending(&self, oldest: u64, end: u64) -> u64 {
        let fresh = end.saturating_sub(self.window.low()).saturating_sub(self.window.above());
        let retries = u64::try_from(self.retries.in_flight()).unwrap_or(u64::MAX);
        fresh.min(end.saturating_sub(oldest)).saturating_add(retries)
    }

    /// Whether it will be delivered, is being delivered, or waits for a retry.
    pub(crate) fn has_on_its_way(&self, seq: u64) -> bool {
        !self.window.contains(seq) || self.retries.due(seq).is_some()
    }

    /// Begins again at `start`, which is not after its cursor; the number of events that come again.
    /// What waits for a retry counts as settled, as always. Events in flight do not: they are given
    /// out again only if they come back.
    pub(crate) fn replay(&mut self, start: u64) -> u64 {
        let mut window = AckWindow::starting_at(start);
        for (seq, _) in self.retries.all() {
            window.settle(seq);
        }
        let before = self.window.low().saturating_add(self.window.above());
        let events = before.saturating_sub(window.low().saturating_add(window.above()));
        (self.window, self.next) = (window, start);
        events
    }

    /// Its cursor is on disk, with this many deliveries that were not, and without these retries that
    /// succeeded: number, due time.
    pub(crate) fn written(&mut self, unwritten: usize, succeeded: &BTreeMap<u64, u64>) {
        self.unwritten = self.unwritten.saturating_sub(unwritten);
        self.succeeded.retain(|seq, due| succeeded.get(seq) != Some(due));
    }
}
