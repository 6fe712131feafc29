//! The queue in memory: the rules of the contract as plainly as they can be written.
//!
//! Owns nothing durable. It is what a store on disk is compared with, and what the parts above
//! the queue are tested on. Its dedup window never ends, and it retains every event.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::{
    Appended, Census, DeadLetter, DeadLetterId, Delivery, Failure, HandlerCensus, Health, Letter,
    Page, Queue, QueueError, RawPush, Seq, StartAt, StoredEvent, Verdict,
};
use crate::{
    clock::{Clock, Timestamp},
    event::{Arrival, Origin},
    name::{HandlerName, HookName},
};

/// A [`Queue`] in memory. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct ModelQueue(Arc<Shared>);

/// A leased delivery of a [`ModelQueue`]; dropped, it gives the lease back.
pub struct ModelReceipt {
    queue: Arc<Shared>,
    handler: HandlerName,
    seq: Seq,
    attempt: u32,
    since: Timestamp,
    settled: bool,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Rung whenever something may have become due, or calls begin to be refused.
    changed: Notify,
}

#[derive(Debug, Clone, Default)]
struct State {
    log: BTreeMap<Seq, Arc<StoredEvent>>,
    /// The hooks that each identity came by or belonged to.
    known: BTreeMap<Identity, BTreeSet<HookName>>,
    handlers: BTreeMap<HandlerName, Place>,
    raw: BTreeMap<u64, DeadLetter>,
    refusal: Option<QueueError>,
    closed: bool,
}

type Identity = (Origin, String, String);

/// Where one handler is. An event of the log that is in none of these is done.
#[derive(Debug, Clone, Default)]
struct Place {
    configured: bool,
    /// Not tried yet.
    fresh: BTreeSet<Seq>,
    waiting: BTreeMap<Seq, Waiting>,
    /// In flight; what a retry goes back to when its lease is dropped.
    leased: BTreeMap<Seq, Option<Waiting>>,
    dead: BTreeMap<Seq, DeadLetter>,
}

/// A delivery that was tried and is to be tried again.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    due: Timestamp,
    attempts: u32,
    since: Timestamp,
}

/// What a handler can have now.
enum Next {
    Leased { seq: Seq, attempt: u32, since: Timestamp },
    Wait(Option<Duration>),
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
        let mut state = self.0.lock().clone();
        state.closed = false;
        for place in state.handlers.values_mut() {
            place.configured = false;
            for seq in place.leased.keys().copied().collect::<Vec<_>>() {
                place.unlease(seq);
            }
        }
        Self::with_state(state, handlers, self.0.clock.clone())
    }

    /// From now on, calls that need the store get this error: how a full or broken store looks
    /// from outside. `None` heals it.
    pub fn refuse(&self, error: Option<QueueError>) {
        self.0.lock().refusal = error;
        self.0.changed.notify_waiters();
    }

    fn with_state(mut state: State, handlers: &[(HandlerName, StartAt)], clock: Clock) -> Self {
        for (name, start_at) in handlers {
            let oldest = match start_at {
                StartAt::Now => BTreeSet::new(),
                StartAt::Oldest => state.log.keys().copied().collect(),
            };
            let new = || Place { fresh: oldest, ..Place::default() };
            state.handlers.entry(name.clone()).or_insert_with(new).configured = true;
        }
        Self(Arc::new(Shared { clock, state: Mutex::new(state), changed: Notify::new() }))
    }

    /// The state, unless the queue is closed.
    fn open(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.0.lock();
        if state.closed { Err(QueueError::Closed) } else { Ok(state) }
    }

    /// The state, unless the queue is closed or the store does not work.
    fn working(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.open()?;
        state.refusal.clone().map_or(Ok(state), Err)
    }

    fn lease(&self, handler: &HandlerName) -> Result<LeaseOrWait, QueueError> {
        let now = self.0.clock.now();
        let mut state = self.open()?;
        if let Some(error @ QueueError::Unavailable(_)) = &state.refusal {
            return Err(error.clone());
        }
        let place = state.configured(handler)?;
        match place.lease(now) {
            Next::Wait(time) => Ok(LeaseOrWait::Wait(time)),
            Next::Leased { seq, attempt, since } => {
                let stored = state.log.get(&seq).cloned().ok_or(QueueError::NotFound)?;
                let (queue, handler) = (self.0.clone(), handler.clone());
                let receipt = ModelReceipt { queue, handler, seq, attempt, since, settled: false };
                Ok(LeaseOrWait::Lease(Delivery { stored, attempt, since, receipt }))
            }
        }
    }
}

enum LeaseOrWait {
    Lease(Delivery<ModelReceipt>),
    Wait(Option<Duration>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic, so a poisoned state is a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn configured(&mut self, handler: &HandlerName) -> Result<&mut Place, QueueError> {
        let place = self.handlers.get_mut(handler).filter(|place| place.configured);
        place.ok_or(QueueError::NotFound)
    }

    fn append(&mut self, arrival: Arrival, received: Timestamp) -> Appended {
        let attributes = arrival.event.attributes();
        let identity = (arrival.origin.clone(), attributes.source.clone(), attributes.id.clone());
        let (from, already) = match (self.known.get(&identity), &arrival.only_by_hook) {
            (None, _) => (arrival.from, Vec::new()),
            (Some(hooks), Some(hook)) if !hooks.contains(hook) => {
                (vec![hook.clone()], hooks.iter().cloned().collect())
            }
            (Some(_), _) => return Appended::Duplicate,
        };
        let hooks = self.known.entry(identity).or_default();
        hooks.extend(from.iter().chain(&arrival.only_by_hook).cloned());
        let seq = Seq(self.log.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let Arrival { origin, event, .. } = arrival;
        let stored = StoredEvent { seq, received, origin, from, already, event };
        self.log.insert(seq, Arc::new(stored));
        for place in self.handlers.values_mut() {
            place.fresh.insert(seq);
        }
        Appended::Stored(seq)
    }

    fn dead_letter(&self, id: &DeadLetterId) -> Result<&DeadLetter, QueueError> {
        let found = match id {
            DeadLetterId::Raw(number) => self.raw.get(number),
            DeadLetterId::Delivery(handler, seq) => {
                self.handlers.get(handler).and_then(|place| place.dead.get(seq))
            }
        };
        found.ok_or(QueueError::NotFound)
    }

    fn census(&self) -> Census {
        let letters = self.handlers.values().flat_map(|place| place.dead.values());
        let events = self.log.values().map(|stored| stored.event.json().len());
        let letters = letters.chain(self.raw.values()).map(|letter| match &letter.letter {
            Letter::Event(stored) => stored.event.json().len(),
            Letter::Raw(push) => push.body.len(),
        });
        Census {
            events: count(self.log.len()),
            live_bytes: count(events.chain(letters).sum()),
            dedup_ids: count(self.known.len()),
            raw_dead_letters: count(self.raw.len()),
            handlers: self.handlers.iter().map(|(name, at)| at.census(name, &self.log)).collect(),
        }
    }
}

impl Place {
    /// A retry that is due, the one that was due first before the others; else the next in the log.
    fn lease(&mut self, now: Timestamp) -> Next {
        let first = self.waiting.iter().min_by_key(|(seq, waiting)| (waiting.due, **seq));
        let first = first.map(|(seq, waiting)| (*seq, *waiting));
        if let Some((seq, waiting)) = first.filter(|(_, waiting)| waiting.due <= now) {
            self.waiting.remove(&seq);
            self.leased.insert(seq, Some(waiting));
            let attempt = waiting.attempts.saturating_add(1);
            return Next::Leased { seq, attempt, since: waiting.since };
        }
        if let Some(seq) = self.fresh.pop_first() {
            self.leased.insert(seq, None);
            return Next::Leased { seq, attempt: 1, since: now };
        }
        Next::Wait(first.map(|(_, waiting)| waiting.due.since(now)))
    }

    /// Gives a lease back: the delivery is again where it was taken from.
    fn unlease(&mut self, seq: Seq) {
        match self.leased.remove(&seq) {
            Some(Some(waiting)) => drop(self.waiting.insert(seq, waiting)),
            Some(None) => drop(self.fresh.insert(seq)),
            None => {}
        }
    }

    fn census(&self, name: &HandlerName, log: &BTreeMap<Seq, Arc<StoredEvent>>) -> HandlerCensus {
        let unsettled = self.fresh.iter().chain(self.waiting.keys()).chain(self.leased.keys());
        HandlerCensus {
            name: name.clone(),
            configured: self.configured,
            pending: count(self.fresh.len() + self.leased.len()),
            retrying: count(self.waiting.len()),
            in_flight: count(self.leased.len()),
            dead_letters: count(self.dead.len()),
            oldest: unsettled.min().and_then(|seq| log.get(seq)).map(|stored| stored.received),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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

    async fn append(&self, arrivals: Vec<Arrival>) -> Result<Vec<Appended>, QueueError> {
        let now = self.0.clock.now();
        let appended = {
            let mut state = self.working()?;
            arrivals.into_iter().map(|arrival| state.append(arrival, now)).collect()
        };
        self.0.changed.notify_waiters();
        Ok(appended)
    }

    async fn bury_raw(&self, push: RawPush, failure: Failure) -> Result<(), QueueError> {
        let buried = self.0.clock.now();
        let mut state = self.working()?;
        let number = state.raw.last_key_value().map_or(1, |(last, _)| last + 1);
        let (id, letter) = (DeadLetterId::Raw(number), Letter::Raw(push));
        state.raw.insert(number, DeadLetter { id, buried, attempts: 0, failure, letter });
        Ok(())
    }

    async fn take(&self, handler: &HandlerName) -> Result<Delivery<ModelReceipt>, QueueError> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Registered before the look, so that no change between look and wait is missed.
            changed.as_mut().enable();
            match self.lease(handler)? {
                LeaseOrWait::Lease(delivery) => return Ok(delivery),
                LeaseOrWait::Wait(None) => changed.await,
                LeaseOrWait::Wait(Some(time)) => tokio::select! {
                    () = changed => {}
                    () = sleep(time) => {}
                },
            }
        }
    }

    async fn settle(&self, receipt: ModelReceipt, verdict: Verdict) -> Result<(), QueueError> {
        let mut receipt = receipt;
        let now = self.0.clock.now();
        let mut state = self.open()?;
        if let Some(error @ QueueError::Unavailable(_)) = &state.refusal {
            let error = error.clone();
            // The receipt gives its lease back when it is dropped, and needs the lock for it.
            drop(state);
            return Err(error);
        }
        receipt.settle(&mut state, verdict, now);
        drop(state);
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
        let state = self.open()?;
        let mut letters: Vec<DeadLetter> = match handler {
            Some(name) => {
                let place = state.handlers.get(name).ok_or(QueueError::NotFound)?;
                place.dead.values().cloned().collect()
            }
            None => {
                let deliveries = state.handlers.values().flat_map(|place| place.dead.values());
                deliveries.chain(state.raw.values()).cloned().collect()
            }
        };
        letters.sort_by(|a, b| (a.buried, &a.id).cmp(&(b.buried, &b.id)));
        Ok(page(letters, wanted))
    }

    async fn dead_letter(&self, id: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        self.open()?.dead_letter(id).cloned()
    }

    async fn revive(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let now = self.0.clock.now();
        {
            let mut state = self.working()?;
            let attempts = state.dead_letter(id)?.attempts;
            let DeadLetterId::Delivery(handler, seq) = id else {
                return Err(QueueError::Undeliverable);
            };
            let place = state.configured(handler)?;
            place.dead.remove(seq);
            place.waiting.insert(*seq, Waiting { due: now, attempts, since: now });
        }
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        let mut state = self.working()?;
        let found = match id {
            DeadLetterId::Raw(number) => state.raw.remove(number),
            DeadLetterId::Delivery(handler, seq) => {
                state.handlers.get_mut(handler).and_then(|place| place.dead.remove(seq))
            }
        };
        found.map(drop).ok_or(QueueError::NotFound)
    }

    async fn census(&self) -> Result<Census, QueueError> {
        Ok(self.open()?.census())
    }

    fn health(&self) -> Health {
        let state = self.0.lock();
        match &state.refusal {
            _ if state.closed => Health::Failing(QueueError::Closed.to_string()),
            Some(error) => Health::Failing(error.to_string()),
            None => Health::Writable,
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.0.lock().closed = true;
        self.0.changed.notify_waiters();
        Ok(())
    }
}

impl ModelReceipt {
    fn settle(&mut self, state: &mut State, verdict: Verdict, now: Timestamp) {
        self.settled = true;
        let stored = state.log.get(&self.seq).cloned();
        let Some((place, stored)) = state.handlers.get_mut(&self.handler).zip(stored) else {
            return;
        };
        place.leased.remove(&self.seq);
        match verdict {
            Verdict::Done => {}
            Verdict::RetryAfter(delay, _) => {
                let (attempts, since) = (self.attempt, self.since);
                let waiting = Waiting { due: now.after(delay), attempts, since };
                place.waiting.insert(self.seq, waiting);
            }
            Verdict::Bury(failure) => {
                let id = DeadLetterId::Delivery(self.handler.clone(), self.seq);
                let letter = Letter::Event(StoredEvent::clone(&stored));
                let attempts = self.attempt;
                let letter = DeadLetter { id, buried: now, attempts, failure, letter };
                place.dead.insert(self.seq, letter);
            }
        }
    }
}

impl Drop for ModelReceipt {
    fn drop(&mut self) {
        if !self.settled {
            if let Some(place) = self.queue.lock().handlers.get_mut(&self.handler) {
                place.unlease(self.seq);
            }
            self.queue.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for ModelReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModelReceipt").field(&self.handler).field(&self.seq).finish()
    }
}
