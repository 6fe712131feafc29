//! The rules of the queue without time, waiting or locks: a state, and what each call makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    event::{Arrival, Origin},
    name::{HandlerName, HookName},
    queue::{
        Appended, BookmarkName, Census, DeadLetter, DeadLetterId, Failure, HandlerCensus, Letter,
        QueueError, RawPush, ReplayFrom, Seq, StartAt, StoredEvent, Verdict,
    },
};

/// All that a queue knows.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) log: BTreeMap<Seq, Arc<StoredEvent>>,
    /// The hooks that each identity came by or belonged to.
    known: BTreeMap<Identity, BTreeSet<HookName>>,
    handlers: BTreeMap<HandlerName, Place>,
    raw: BTreeMap<u64, DeadLetter>,
    /// Numbers of undecodable pushes that were given: none is given twice.
    raw_numbers: u64,
    pub(super) bookmarks: BTreeMap<BookmarkName, Bytes>,
    pub(super) refusal: Option<QueueError>,
    pub(super) damage: Option<String>,
    pub(super) closed: bool,
}

type Identity = (Origin, String, String);

/// Where one handler is. An event of the log that is in none of these is done.
#[derive(Debug, Clone, Default)]
struct Place {
    configured: bool,
    /// Not tried yet.
    fresh: BTreeSet<Seq>,
    waiting: BTreeMap<Seq, Waiting>,
    /// In flight; with what a retry goes back to when its lease is dropped.
    leased: BTreeMap<Seq, Option<Waiting>>,
    dead: BTreeMap<Seq, DeadLetter>,
    /// Done since the last restart, with what a retry was before: what a crash may forget.
    done: BTreeMap<Seq, Option<Waiting>>,
    paused: bool,
}

/// A delivery that was tried and is to be tried again.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    due: Timestamp,
    attempts: u32,
    since: Timestamp,
}

/// One delivery in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) seq: Seq,
    pub(super) attempt: u32,
    pub(super) since: Timestamp,
}

/// What a handler can have now.
pub(super) enum Next {
    /// This.
    Lease(Lease),
    /// Nothing before that much time is over, or before something changes.
    Wait(Option<Duration>),
}

impl State {
    /// A restart with these handlers: leases are given back, new handlers get their place.
    pub(super) fn reopen(&mut self, handlers: &[(HandlerName, StartAt)]) {
        self.closed = false;
        for place in self.handlers.values_mut() {
            place.configured = false;
            place.done.clear();
            for seq in place.leased.keys().copied().collect::<Vec<_>>() {
                place.unlease(seq);
            }
        }
        for (name, start_at) in handlers {
            let fresh = match start_at {
                StartAt::Now => BTreeSet::new(),
                StartAt::Oldest => self.log.keys().copied().collect(),
            };
            let new = || Place { fresh, ..Place::default() };
            self.handlers.entry(name.clone()).or_insert_with(new).configured = true;
        }
    }

    pub(super) fn append(&mut self, arrival: Arrival, received: Timestamp) -> Appended {
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

    pub(super) fn bury_raw(&mut self, push: RawPush, failure: Failure, buried: Timestamp) {
        let same = |letter: &DeadLetter| match &letter.letter {
            Letter::Raw(kept) => (&kept.hook, &kept.body) == (&push.hook, &push.body),
            Letter::Event(_) => false,
        };
        if self.raw.values().any(same) {
            return;
        }
        self.raw_numbers += 1;
        let number = self.raw_numbers;
        let (id, letter) = (DeadLetterId::Raw(number), Letter::Raw(push));
        self.raw.insert(number, DeadLetter { id, buried, attempts: 0, failure, letter });
    }

    pub(super) fn lease(&mut self, name: &HandlerName, now: Timestamp) -> Result<Next, QueueError> {
        Ok(self.configured(name)?.lease(now))
    }

    pub(super) fn unlease(&mut self, name: &HandlerName, seq: Seq) {
        if let Some(place) = self.handlers.get_mut(name) {
            place.unlease(seq);
        }
    }

    /// It is as if this was never settled.
    pub(super) fn forget_done(&mut self, name: &HandlerName, seq: Seq) -> bool {
        let Some(place) = self.handlers.get_mut(name) else { return false };
        match place.done.remove(&seq) {
            Some(Some(waiting)) => drop(place.waiting.insert(seq, waiting)),
            Some(None) => drop(place.fresh.insert(seq)),
            None => return false,
        }
        true
    }

    pub(super) fn settle(
        &mut self,
        name: &HandlerName,
        lease: Lease,
        verdict: Verdict,
        now: Timestamp,
    ) {
        let Lease { seq, attempt: attempts, since } = lease;
        let stored = self.log.get(&seq).cloned();
        let Some((place, stored)) = self.handlers.get_mut(name).zip(stored) else { return };
        let before = place.leased.remove(&seq).flatten();
        match verdict {
            Verdict::Done => drop(place.done.insert(seq, before)),
            Verdict::RetryAfter(delay, _) => {
                place.waiting.insert(seq, Waiting { due: now.after(delay), attempts, since });
            }
            Verdict::Bury(failure) => {
                let id = DeadLetterId::Delivery(name.clone(), seq);
                let letter = Letter::Event(StoredEvent::clone(&stored));
                place.dead.insert(seq, DeadLetter { id, buried: now, attempts, failure, letter });
            }
        }
    }

    /// Dead letters, oldest first.
    pub(super) fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters: Vec<DeadLetter> = if let Some(name) = handler {
            let place = self.handlers.get(name).ok_or(QueueError::NotFound)?;
            place.dead.values().cloned().collect()
        } else {
            let deliveries = self.handlers.values().flat_map(|place| place.dead.values());
            deliveries.chain(self.raw.values()).cloned().collect()
        };
        letters.sort_by(|a, b| (a.buried, &a.id).cmp(&(b.buried, &b.id)));
        Ok(letters)
    }

    pub(super) fn dead_letter(&self, id: &DeadLetterId) -> Result<&DeadLetter, QueueError> {
        let found = match id {
            DeadLetterId::Raw(number) => self.raw.get(number),
            DeadLetterId::Delivery(handler, seq) => {
                self.handlers.get(handler).and_then(|place| place.dead.get(seq))
            }
        };
        found.ok_or(QueueError::NotFound)
    }

    pub(super) fn revive(&mut self, id: &DeadLetterId, now: Timestamp) -> Result<(), QueueError> {
        let attempts = self.dead_letter(id)?.attempts;
        let DeadLetterId::Delivery(handler, seq) = id else {
            return Err(QueueError::Undeliverable);
        };
        let place = self.configured(handler)?;
        place.dead.remove(seq);
        if place.is_on_its_way(*seq) {
            return Ok(());
        }
        place.waiting.insert(*seq, Waiting { due: now, attempts, since: now });
        Ok(())
    }

    pub(super) fn discard(&mut self, id: &DeadLetterId) -> Result<(), QueueError> {
        let found = match id {
            DeadLetterId::Raw(number) => self.raw.remove(number),
            DeadLetterId::Delivery(handler, seq) => {
                self.handlers.get_mut(handler).and_then(|place| place.dead.remove(seq))
            }
        };
        found.map(drop).ok_or(QueueError::NotFound)
    }

    /// So many come again.
    pub(super) fn replay(
        &mut self,
        name: &HandlerName,
        from: ReplayFrom,
    ) -> Result<u64, QueueError> {
        let end = Seq(self.log.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let start = match from {
            ReplayFrom::Oldest => Seq(0),
            ReplayFrom::Seq(seq) => seq,
            ReplayFrom::Time(time) => {
                let late = self.log.iter().find(|(_, stored)| stored.received >= time);
                late.map_or(end, |(seq, _)| *seq)
            }
        };
        let from_there: Vec<Seq> = self.log.range(start..).map(|(seq, _)| *seq).collect();
        let place = self.configured(name)?;
        let at = place.first_in_the_log().unwrap_or(end);
        if start > at {
            return Err(QueueError::NotSoFar(at));
        }
        let settled: Vec<Seq> =
            from_there.into_iter().filter(|seq| !place.is_on_its_way(*seq)).collect();
        for seq in &settled {
            place.done.remove(seq);
            place.fresh.insert(*seq);
        }
        Ok(count(settled.len()))
    }

    pub(super) fn pause(&mut self, name: &HandlerName, paused: bool) -> Result<(), QueueError> {
        self.configured(name)?.paused = paused;
        Ok(())
    }

    pub(super) fn forget(&mut self, name: &HandlerName) -> Result<(), QueueError> {
        if self.handlers.get(name).ok_or(QueueError::NotFound)?.configured {
            return Err(QueueError::Configured);
        }
        self.handlers.remove(name);
        Ok(())
    }

    pub(super) fn census(&self) -> Census {
        let events = self.log.values().map(|stored| stored.event.json().len());
        let letters = self.handlers.values().flat_map(|place| place.dead.values());
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

    fn configured(&mut self, name: &HandlerName) -> Result<&mut Place, QueueError> {
        let place = self.handlers.get_mut(name).filter(|place| place.configured);
        place.ok_or(QueueError::NotFound)
    }
}

impl Place {
    /// A retry that is due, the one that was due first before the others; else the next in the log.
    fn lease(&mut self, now: Timestamp) -> Next {
        if self.paused {
            return Next::Wait(None);
        }
        let first = self.waiting.iter().min_by_key(|(seq, waiting)| (waiting.due, **seq));
        let first = first.map(|(seq, waiting)| (*seq, *waiting));
        if let Some((seq, waiting)) = first.filter(|(_, waiting)| waiting.due <= now) {
            self.waiting.remove(&seq);
            self.leased.insert(seq, Some(waiting));
            let attempt = waiting.attempts.saturating_add(1);
            return Next::Lease(Lease { seq, attempt, since: waiting.since });
        }
        if let Some(seq) = self.fresh.pop_first() {
            self.leased.insert(seq, None);
            return Next::Lease(Lease { seq, attempt: 1, since: now });
        }
        Next::Wait(first.map(|(_, waiting)| waiting.due.since(now)))
    }

    /// It will be delivered, is being delivered, or waits for a retry.
    fn is_on_its_way(&self, seq: Seq) -> bool {
        self.fresh.contains(&seq)
            || self.waiting.contains_key(&seq)
            || self.leased.contains_key(&seq)
    }

    /// The first that has not been tried to its end; retries and dead letters have been.
    fn first_in_the_log(&self) -> Option<Seq> {
        let first_time = self.leased.iter().find(|(_, retry)| retry.is_none());
        self.fresh.first().into_iter().chain(first_time.map(|(seq, _)| seq)).min().copied()
    }

    /// The delivery is again where it was taken from.
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
            paused: self.paused,
            oldest: unsettled.min().and_then(|seq| log.get(seq)).map(|stored| stored.received),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
