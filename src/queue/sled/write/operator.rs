//! What an operator asks for: a dead letter again or gone, a handler's cursor set back, a handler
//! paused.

use std::time::Duration;

use super::{commit::Commit, engine::Engine};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        DeadLetterId, QueueError, ReplayFrom, Seq,
        sled::{
            codec::{
                DEAD,
                record::{Head, MISSING},
                values::Tried,
            },
            keys,
            read_error::{ReadError, entry},
            shared::Shared,
        },
    },
};

impl Commit {
    /// A dead letter becomes a retry that is due; if its event is on its way anyhow, it only goes.
    pub(crate) fn revive(&mut self, engine: &Engine, id: DeadLetterId) -> Result<(), QueueError> {
        let shared = &engine.shared;
        find(shared, &id)?;
        let DeadLetterId::Delivery(handler, seq) = id.clone() else {
            return Err(QueueError::Undeliverable);
        };
        {
            let mut state = shared.state();
            let of = state.handler(&handler)?;
            if of.has_on_its_way(seq.0) {
                self.remove_dead(vec![id]);
                return Ok(());
            }
            self.cursor(&handler, of);
        }
        let tried = read_letter(engine, &id).map_err(|error| shared.failed(&error))?;
        let mut tried = tried.ok_or(QueueError::NotFound)?;
        (tried.at, tried.since) = (self.now, self.now);
        let retry = self.retry(&handler, &tried, Duration::ZERO);
        self.remove_dead(vec![id]);
        self.then(move |state| state.retries(&handler, seq.0, retry));
        Ok(())
    }

    pub(crate) fn discard(&mut self, shared: &Shared, id: DeadLetterId) -> Result<(), QueueError> {
        find(shared, &id)?;
        self.remove_dead(vec![id]);
        Ok(())
    }

    /// In memory it is done at once: what is settled while this is written counts after it. Should
    /// it not be written, the reopening brings the cursor forward again.
    pub(crate) fn replay(
        &mut self,
        engine: &Engine,
        handler: HandlerName,
        from: ReplayFrom,
    ) -> Result<u64, QueueError> {
        let shared = &engine.shared;
        let (oldest, next) = {
            let state = shared.state();
            (state.oldest, state.next)
        };
        let start = match from {
            ReplayFrom::Oldest => oldest,
            ReplayFrom::Seq(seq) => seq.0.max(oldest),
            ReplayFrom::Time(time) => {
                first_since(engine, time, oldest, next).map_err(|error| shared.failed(&error))?
            }
        };
        let mut state = shared.state();
        let of = state.handler(&handler)?;
        if start > of.window.low() {
            return Err(QueueError::NotSoFar(Seq(of.window.low())));
        }
        let events = of.replay(start);
        self.cursor(&handler, of);
        drop(state);
        tracing::info!(%handler, from = start, events, "a replay begins");
        self.then(move |state| {
            if let Some(of) = state.handlers.get(&handler) {
                of.wake.notify_waiters();
            }
        });
        Ok(events)
    }

    pub(crate) fn pause(
        &mut self,
        shared: &Shared,
        handler: HandlerName,
        paused: bool,
    ) -> Result<(), QueueError> {
        self.cursor(&handler, shared.state().handler(&handler)?).paused = paused;
        tracing::info!(%handler, paused, "paused or resumed");
        self.then(move |state| {
            if let Some(of) = state.handlers.get_mut(&handler) {
                of.paused = paused;
                of.wake.notify_waiters();
            }
        });
        Ok(())
    }
}

fn find(shared: &Shared, id: &DeadLetterId) -> Result<(), QueueError> {
    let there = shared.state().dead.contains(id);
    if there { Ok(()) } else { Err(QueueError::NotFound) }
}

fn read_letter(engine: &Engine, id: &DeadLetterId) -> Result<Option<Tried>, ReadError> {
    entry(engine.view()?, &keys::dead_key(id), |value| Tried::decode(DEAD, value))
}

/// The first event that was stored then or later, or the one that is next. Records are stored one
/// after the other, so it is looked for by halves.
fn first_since(engine: &Engine, time: Timestamp, oldest: u64, next: u64) -> Result<u64, ReadError> {
    let view = engine.view()?;
    let (mut low, mut high) = (oldest, next);
    while low < high {
        let middle = low + (high - low) / 2;
        let record = view.range(keys::event(low)..=keys::event(middle)).next_back().transpose()?;
        let head = match &record {
            Some((key, value)) => Head::of(key, value).map_err(|error| (key.to_vec(), error)),
            None => Err((keys::event(low), MISSING)),
        };
        let head = head.map_err(|(key, error)| ReadError::Entry(key, error))?;
        (low, high) = if head.received < time { (head.end(), high) } else { (low, head.first) };
    }
    Ok(low)
}
