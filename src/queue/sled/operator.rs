//! What an operator asks for: a dead letter again or gone, a handler's place set back, a handler
//! paused or forgotten.
//!
//! Each is a commit of its own, so that nothing is settled between the look and the deed.

use super::{
    database::Db,
    effect::Effect,
    entry::{Cursor, Tried},
    forget::{is_of, remains},
    group::{Group, Pending},
    keys,
    long::{self, size},
    op::Order,
    reader::Shared,
    record::Head,
    state::{Place, State},
    window::Window,
    wire::Kind,
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{DeadLetterId, QueueError, ReplayFrom, Seq},
};

impl Group {
    /// Puts it into this group, which holds nothing else, or refuses it.
    pub(super) fn operate(&mut self, shared: &Shared, db: &Db, order: Order) {
        let (planned, answer) = match order {
            Order::Revive { id, answer } => (self.revive(shared, db, id), answer),
            Order::Discard { id, answer } => (self.discard(shared, id), answer),
            Order::Pause { handler, paused, answer } => {
                (self.pause(shared, handler, paused), answer)
            }
            Order::Forget { handler, answer } => (self.forget(shared, handler), answer),
            Order::Replay { handler, from, answer } => {
                match self.replay(shared, db, &handler, from) {
                    Ok(events) => self.answers.push(Pending::Replayed(answer, events)),
                    Err(error) => drop(answer.send(Err(error))),
                }
                return;
            }
        };
        match planned {
            Ok(()) => self.answers.push(Pending::Done(answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// A dead letter becomes a retry that is due; if its event is on its way anyhow, it only goes.
    fn revive(&mut self, shared: &Shared, db: &Db, id: DeadLetterId) -> Result<(), QueueError> {
        find(shared, &id)?;
        let DeadLetterId::Delivery(handler, seq) = &id else {
            return Err(QueueError::Undeliverable);
        };
        let mut state = shared.state();
        let place = state.place(handler)?;
        if place.has_on_its_way(seq.0) {
            drop(state);
            return self.discard(shared, id);
        }
        self.place(handler, place);
        drop(state);
        let (handler, seq) = (handler.clone(), *seq);
        let key = keys::dead(&handler, seq.0);
        let value = db.get(&key).map_err(|e| unreadable(&e))?.ok_or(QueueError::NotFound)?;
        let value = long::whole(db, &key, &value).map_err(|e| unreadable(&e))?;
        let value = value.ok_or(QueueError::NotFound)?;
        let mut tried = Tried::decode(Kind::Dead, &value).map_err(|e| unreadable(&e))?;
        (tried.at, tried.since) = (self.now, self.now);
        let due = self.now.as_millis();
        let (retry, value) = (keys::retry(due, &handler, seq.0), tried.encode(Kind::Retry));
        let bytes = size(&retry, &value);
        self.entries.extend([(key, None), (retry, Some(value))]);
        self.effects.push(Effect::Revived { handler, seq, due, bytes });
        Ok(())
    }

    fn discard(&mut self, shared: &Shared, id: DeadLetterId) -> Result<(), QueueError> {
        find(shared, &id)?;
        self.entries.push((keys::dead_key(&id), None));
        self.effects.push(Effect::Discarded(id));
        Ok(())
    }

    /// In memory it is done at once: what is settled while this is written counts after it. Should
    /// it not be written, the reopening brings the place forward again.
    fn replay(
        &mut self,
        shared: &Shared,
        db: &Db,
        handler: &HandlerName,
        from: ReplayFrom,
    ) -> Result<u64, QueueError> {
        let (oldest, next) = {
            let mut state = shared.state();
            state.place(handler)?;
            (state.oldest, state.next)
        };
        let start = match from {
            ReplayFrom::Oldest => oldest,
            ReplayFrom::Seq(seq) => seq.0.max(oldest),
            ReplayFrom::Time(time) => first_since(db, time, oldest, next)?,
        };
        let mut state = shared.state();
        let place = state.place(handler)?;
        if start > place.window.low() {
            return Err(QueueError::NotSoFar(Seq(place.window.low())));
        }
        let events = place.replay(start);
        self.place(handler, place);
        self.effects.push(Effect::Replayed(handler.clone()));
        drop(state);
        tracing::info!(%handler, from = start, events, "a replay begins");
        Ok(events)
    }

    /// Writes down a handler's place as it is. A retry that succeeded goes with it: it must not be
    /// found on disk beside another delivery of its event.
    fn place(&mut self, handler: &HandlerName, place: &Place) {
        self.entries.push((keys::cursor(handler), Some(place.cursor().encode())));
        let retries: Vec<_> = place.succeeded.iter().map(|(seq, due)| (*seq, *due)).collect();
        let key = |(seq, due): &(u64, u64)| (keys::retry(*due, handler, *seq), None);
        self.entries.extend(retries.iter().map(key));
        self.effects.push(Effect::Deleted { handler: handler.clone(), retries });
    }

    fn pause(
        &mut self,
        shared: &Shared,
        handler: HandlerName,
        paused: bool,
    ) -> Result<(), QueueError> {
        let cursor = Cursor { paused, ..shared.state().place(&handler)?.cursor() };
        self.entries.push((keys::cursor(&handler), Some(cursor.encode())));
        tracing::info!(%handler, paused, "paused or resumed");
        self.effects.push(Effect::Paused { handler, paused });
        Ok(())
    }

    fn forget(&mut self, shared: &Shared, handler: HandlerName) -> Result<(), QueueError> {
        let state = shared.state();
        let place = state.places.get(&handler).ok_or(QueueError::NotFound)?;
        if place.configured {
            return Err(QueueError::Configured);
        }
        let retries = place.retries.all().map(|(seq, due, _)| (due, seq));
        let dead = state.dead.by_id.keys().filter(|id| is_of(id, &handler));
        self.entries.extend(remains(&handler, retries, dead));
        drop(state);
        tracing::info!(%handler, "forgotten");
        self.effects.push(Effect::Forgotten(handler));
        Ok(())
    }
}

fn find(shared: &Shared, id: &DeadLetterId) -> Result<(), QueueError> {
    let there = shared.state().dead.by_id.contains_key(id);
    if there { Ok(()) } else { Err(QueueError::NotFound) }
}

fn unreadable(error: &impl ToString) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

/// The first event that was stored then or later, or the one that is next. Records are stored one
/// after the other, so it is looked for by halves.
fn first_since(db: &Db, time: Timestamp, oldest: u64, next: u64) -> Result<u64, QueueError> {
    let (mut low, mut high) = (oldest, next);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = db.range(keys::event(low)..=keys::event(middle)).next_back();
        let (_, value) = entry.ok_or(QueueError::NotFound)?.map_err(|e| unreadable(&e))?;
        let head = Head::decode(&value).map_err(|e| unreadable(&e))?;
        (low, high) = if head.received < time { (head.end(), high) } else { (low, head.first) };
    }
    Ok(low)
}

impl Place {
    /// It will be delivered, is being delivered, or waits for a retry.
    fn has_on_its_way(&self, seq: u64) -> bool {
        !self.window.contains(seq) || self.retries.contains(seq)
    }

    /// Begins again at `start`, which is not after its place. What waits for a retry counts as
    /// settled, as always. Events in flight do not: they are given out again only if they come back.
    pub(super) fn replay(&mut self, start: u64) -> u64 {
        let mut window = Window::starting_at(start);
        for (seq, ..) in self.retries.all() {
            window.settle(seq);
        }
        let fewer = |old: u64, new: u64| old.saturating_sub(new);
        let before = self.window.low().saturating_add(self.window.above());
        let events = fewer(before, window.low().saturating_add(window.above()));
        (self.window, self.next) = (window, start);
        self.released.clear();
        events
    }

    /// These retries, which succeeded, are no longer on disk: number, due time.
    pub(super) fn deleted(&mut self, retries: &[(u64, u64)]) {
        for (seq, due) in retries {
            if self.succeeded.get(seq) == Some(due) {
                self.succeeded.remove(seq);
            }
        }
    }
}

impl State {
    /// Nothing of it is known any more.
    pub(super) fn forget(&mut self, handler: &HandlerName) {
        let Some(place) = self.places.remove(handler) else { return };
        let bytes: u64 = place.retries.all().map(|(_, _, bytes)| bytes).sum();
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        let dead: Vec<_> =
            self.dead.by_id.keys().filter(|id| is_of(id, handler)).cloned().collect();
        for id in dead {
            self.unbury(&id);
        }
    }
}
