//! What the store knows without asking the disk: places, leases, due times, sizes.
//!
//! Owns which delivery is next for a handler. Nothing here waits or does I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    Options,
    entry::Cursor,
    load::Loaded,
    tail::{Group, Tail, event_in},
    window::Window,
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{DeadLetterId, Health, QueueError, StartAt, StoredEvent},
};

/// Reads of the log that a handler's deliveries are served from at once.
const READING: usize = 3;

/// Waiting retries of one handler.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Those that are not in flight: due time, number.
    by_due: BTreeSet<(u64, u64)>,
    /// All of them: number, due time and bytes.
    by_seq: BTreeMap<u64, (u64, u64)>,
}

impl Retries {
    fn insert(&mut self, seq: u64, due: u64, bytes: u64) {
        self.remove(seq);
        self.by_seq.insert(seq, (due, bytes));
        self.by_due.insert((due, seq));
    }

    /// The bytes that it took.
    fn remove(&mut self, seq: u64) -> u64 {
        let Some((due, bytes)) = self.by_seq.remove(&seq) else { return 0 };
        self.by_due.remove(&(due, seq));
        bytes
    }

    /// Whether it waits, or is in flight as a retry.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.by_seq.contains_key(&seq)
    }

    /// All of them: number, due time and bytes.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.by_seq.iter().map(|(seq, (due, bytes))| (*seq, *due, *bytes))
    }

    /// So many wait.
    pub(super) fn waiting(&self) -> usize {
        self.by_due.len()
    }

    /// So many are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.by_seq.len() - self.by_due.len()
    }

    /// The oldest event among them, and when it is due.
    pub(super) fn oldest(&self) -> Option<(u64, u64)> {
        self.by_seq.first_key_value().map(|(seq, (due, _))| (*seq, *due))
    }
}

/// One handler.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) configured: bool,
    pub(super) paused: bool,
    pub(super) seen: Timestamp,
    pub(super) window: Window,
    pub(super) retries: Retries,
    /// Numbers in flight, of events and of retries.
    pub(super) leased: BTreeSet<u64>,
    /// Settled since it was last written down.
    pub(super) unwritten: usize,
    /// Retries that succeeded, not yet deleted on disk: number, due time.
    pub(super) succeeded: BTreeMap<u64, u64>,
    /// The records that it reads from, once the tail has gone on without it, and whose turn it is
    /// to read one.
    reading: VecDeque<Vec<Group>>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) dead: u64,
    /// Wakes those who wait for a delivery.
    pub(super) wake: Arc<Notify>,
    /// No event from here on was given out, but those that were in flight when it was set back.
    pub(super) next: u64,
    /// Given out and come back unsettled.
    pub(super) released: BTreeSet<u64>,
}

/// What a handler is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Deliver this event for the first time.
    Event(u64),
    /// Deliver this event again: number, due time.
    Retry(u64, u64),
    /// Wait, at most until a retry is due.
    Wait(Option<Timestamp>),
}

impl Place {
    fn job(&mut self, now: Timestamp, end: u64) -> Job {
        if self.paused {
            return Job::Wait(None);
        }
        let first = self.retries.by_due.first().copied();
        if let Some((due, seq)) = first.filter(|(due, _)| *due <= now.as_millis()) {
            self.retries.by_due.remove(&(due, seq));
            self.leased.insert(seq);
            return Job::Retry(seq, due);
        }
        while let Some(seq) = self.candidate(end) {
            if !self.window.contains(seq) && !self.leased.contains(&seq) {
                self.leased.insert(seq);
                return Job::Event(seq);
            }
        }
        Job::Wait(first.map(|(due, _)| Timestamp::from_millis(due)))
    }

    fn candidate(&mut self, end: u64) -> Option<u64> {
        if let Some(seq) = self.released.pop_first() {
            return Some(seq);
        }
        self.next = self.next.max(self.window.low());
        let seq = self.next;
        (seq < end && self.window.reaches(seq)).then(|| {
            self.next += 1;
            seq
        })
    }

    /// Records were read, in order. Those before may still be wanted by deliveries that overtake.
    pub(super) fn read(&mut self, groups: Vec<Group>) {
        self.reading.truncate(READING - 1);
        self.reading.push_front(groups);
    }

    /// A delivery was given back.
    pub(super) fn release(&mut self, seq: u64, due: Option<u64>) {
        self.leased.remove(&seq);
        if let Some(due) = due {
            if self.retries.by_seq.get(&seq).is_some_and(|(now_due, _)| *now_due == due) {
                self.retries.by_due.insert((due, seq));
            }
        } else if seq < self.next {
            // Otherwise its turn is still to come.
            self.released.insert(seq);
        }
        self.wake.notify_waiters();
    }

    /// A delivery has ended. So many bytes on disk are of no more use.
    fn settled(&mut self, seq: u64, due: Option<u64>) -> u64 {
        self.leased.remove(&seq);
        self.unwritten += 1;
        if due.is_some() {
            return self.retries.remove(seq);
        }
        let low = self.window.low();
        self.window.settle(seq);
        if self.window.low() != low {
            // Someone may wait at the far end of the window.
            self.wake.notify_waiters();
        }
        0
    }

    /// What is written down of it.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { window: self.window.clone(), seen: self.seen, paused: self.paused }
    }

    /// Events that it has not tried, and all in flight.
    pub(super) fn pending(&self, oldest: u64, end: u64) -> u64 {
        let fresh = end.saturating_sub(self.window.low()).saturating_sub(self.window.above());
        let retries = u64::try_from(self.retries.in_flight()).unwrap_or(u64::MAX);
        fresh.min(end.saturating_sub(oldest)).saturating_add(retries)
    }
}

/// All dead letters, by id and by age.
#[derive(Debug, Default)]
pub(super) struct Dead {
    pub(super) by_id: BTreeMap<DeadLetterId, (Timestamp, u64)>,
    pub(super) by_age: BTreeSet<(Timestamp, DeadLetterId)>,
    pub(super) bytes: u64,
    pub(super) raw: u64,
}

impl Dead {
    fn insert(&mut self, id: DeadLetterId, at: Timestamp, bytes: u64) {
        self.remove(&id);
        self.raw += u64::from(matches!(id, DeadLetterId::Raw(_)));
        self.bytes += bytes;
        self.by_age.insert((at, id.clone()));
        self.by_id.insert(id, (at, bytes));
    }

    fn remove(&mut self, id: &DeadLetterId) -> Option<u64> {
        let (at, bytes) = self.by_id.remove(id)?;
        self.raw -= u64::from(matches!(id, DeadLetterId::Raw(_)));
        self.bytes -= bytes;
        self.by_age.remove(&(at, id.clone()));
        Some(bytes)
    }
}

/// The whole.
#[derive(Debug)]
pub(super) struct State {
    pub(super) health: Health,
    pub(super) closed: bool,
    /// The first event in the log.
    pub(super) oldest: u64,
    /// The number that the next event gets.
    pub(super) next: u64,
    pub(super) next_raw: u64,
    pub(super) live_bytes: u64,
    pub(super) dedup_ids: u64,
    pub(super) places: BTreeMap<HandlerName, Place>,
    pub(super) dead: Dead,
    pub(super) tail: Tail,
}

impl State {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            health: Health::Failing("it is being opened".into()),
            closed: false,
            oldest: 1,
            next: 1,
            next_raw: 1,
            live_bytes: 0,
            dedup_ids: 0,
            places: BTreeMap::new(),
            dead: Dead::default(),
            tail: Tail::default(),
        }
    }

    /// Takes over what stands on disk. Leases and settled marks that are here already are kept.
    pub(super) fn install(&mut self, loaded: &mut Loaded, options: &Options, now: Timestamp) {
        self.oldest = loaded.oldest;
        self.next = loaded.next;
        self.next_raw = loaded.next_raw;
        self.live_bytes = loaded.live_bytes;
        self.dedup_ids = u64::try_from(loaded.dedup.known.len()).unwrap_or(u64::MAX);
        self.tail = Tail::default();
        self.install_places(mem::take(&mut loaded.cursors), options, now);
        for place in self.places.values_mut() {
            (place.retries, place.dead) = (Retries::default(), 0);
            place.reading.clear();
        }
        for (handler, due, seq, bytes) in loaded.retries.drain(..) {
            let place = self.places.entry(handler).or_default();
            if let Some(known) = place.succeeded.get_mut(&seq) {
                *known = due;
                continue;
            }
            // Out of the window's reach when its place was last written down.
            place.window.settle(seq);
            place.retries.insert(seq, due, bytes);
            if place.leased.contains(&seq) {
                place.retries.by_due.remove(&(due, seq));
            }
        }
        self.dead = Dead::default();
        for (id, at, bytes) in loaded.dead.drain(..) {
            self.bury(id, at, bytes);
        }
        self.wake_all();
    }

    fn install_places(
        &mut self,
        cursors: BTreeMap<HandlerName, Cursor>,
        options: &Options,
        now: Timestamp,
    ) {
        for (handler, cursor) in cursors {
            let place = self.places.entry(handler).or_default();
            place.window.merge(&cursor.window);
            (place.seen, place.paused) = (cursor.seen, cursor.paused);
        }
        for (handler, start_at) in &options.handlers {
            let (oldest, next) = (self.oldest, self.next);
            let place = self.places.entry(handler.clone()).or_insert_with(|| {
                let low = match start_at {
                    StartAt::Now => next,
                    StartAt::Oldest => oldest,
                };
                Place { window: Window::starting_at(low), ..Place::default() }
            });
            place.configured = true;
            place.seen = now;
            place.window.raise(oldest);
            place.unwritten += 1;
        }
    }

    /// The next job of a handler, leased to the caller.
    pub(super) fn job(&mut self, handler: &HandlerName, now: Timestamp) -> Result<Job, QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let end = self.next;
        self.place(handler).map(|place| place.job(now, end))
    }

    /// A configured handler.
    pub(super) fn place(&mut self, handler: &HandlerName) -> Result<&mut Place, QueueError> {
        self.places.get_mut(handler).filter(|place| place.configured).ok_or(QueueError::NotFound)
    }

    /// The event with this number, if memory holds it.
    pub(super) fn recent(&self, handler: &HandlerName, seq: u64) -> Option<Arc<StoredEvent>> {
        let mut reading = self.places.get(handler)?.reading.iter();
        reading.find_map(|groups| event_in(groups, seq)).or_else(|| self.tail.event(seq))
    }

    /// A delivery has ended, for good or to go on as a retry or a dead letter.
    pub(super) fn settled(&mut self, handler: &HandlerName, seq: u64, due: Option<u64>) {
        let freed = self.places.get_mut(handler).map_or(0, |place| place.settled(seq, due));
        self.live_bytes = self.live_bytes.saturating_sub(freed);
    }

    /// A delivery waits for its next attempt.
    pub(super) fn retries(&mut self, handler: &HandlerName, seq: u64, due: u64, bytes: u64) {
        self.live_bytes += bytes;
        let place = self.places.entry(handler.clone()).or_default();
        place.retries.insert(seq, due, bytes);
        place.wake.notify_waiters();
    }

    pub(super) fn bury(&mut self, id: DeadLetterId, at: Timestamp, bytes: u64) {
        if let DeadLetterId::Delivery(handler, _) = &id {
            self.places.entry(handler.clone()).or_default().dead += 1;
        }
        self.dead.insert(id, at, bytes);
    }

    pub(super) fn unbury(&mut self, id: &DeadLetterId) {
        let Some(bytes) = self.dead.remove(id) else { return };
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if let DeadLetterId::Delivery(handler, _) = id
            && let Some(place) = self.places.get_mut(handler)
        {
            place.dead -= 1;
        }
    }

    /// Everything below is settled by all configured handlers.
    pub(super) fn settled_by_all(&self) -> u64 {
        let configured = self.places.values().filter(|place| place.configured);
        configured.map(|place| place.window.low()).min().unwrap_or(self.next).min(self.next)
    }

    /// So many settled marks of one handler wait to be written down, at most.
    pub(super) fn unwritten(&self) -> usize {
        self.places.values().map(|place| place.unwritten).max().unwrap_or(0)
    }

    pub(super) fn wake_all(&self) {
        for place in self.places.values() {
            place.wake.notify_waiters();
        }
    }
}
