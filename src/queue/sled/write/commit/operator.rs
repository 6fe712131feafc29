//! What an operator asks for: a dead letter again or gone, a handler's cursor set back, a handler
//! paused.
//!
//! Each is a commit of its own, so that nothing is settled between the look and the deed.

use super::{
    super::{apply::Apply, command::Operation},
    Commit, Pending,
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        DeadLetterId, QueueError, ReplayFrom, Seq,
        sled::{
            codec::{
                DEAD, RETRY, Value,
                record::Head,
                values::{Cursor, Tried},
            },
            keys,
            read_error::whole,
            shared::Shared,
            state::{handler::HandlerState, retries::Retry},
        },
    },
    store::{View, chunked::size},
};

impl Commit {
    /// Puts it into this commit, which holds nothing else, or refuses it.
    pub(crate) fn operate(&mut self, shared: &Shared, view: &View, operation: Operation) {
        let (planned, answer) = match operation {
            Operation::Revive { id, answer } => (self.revive(shared, view, id), answer),
            Operation::Discard { id, answer } => (self.discard(shared, id), answer),
            Operation::Pause { handler, paused, answer } => {
                (self.pause(shared, handler, paused), answer)
            }
            Operation::Replay { handler, from, answer } => {
                match self.replay(shared, view, &handler, from) {
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
    fn revive(&mut self, shared: &Shared, view: &View, id: DeadLetterId) -> Result<(), QueueError> {
        find(shared, &id)?;
        let DeadLetterId::Delivery(handler, seq) = &id else {
            return Err(QueueError::Undeliverable);
        };
        let mut state = shared.state();
        let handler_state = state.handler(handler)?;
        if handler_state.has_on_its_way(seq.0) {
            drop(state);
            return self.discard(shared, id);
        }
        self.cursor(handler, handler_state);
        drop(state);
        let (handler, seq) = (handler.clone(), *seq);
        let key = keys::dead(&handler, seq.0);
        let value = view.get(&key).map_err(|e| unreadable(&e))?.ok_or(QueueError::NotFound)?;
        let value = whole(view, &key, &value).map_err(|e| unreadable(&e))?;
        let value = value.ok_or(QueueError::NotFound)?;
        let mut tried = Tried::decode(DEAD, &value).map_err(|e| unreadable(&e))?;
        (tried.at, tried.since) = (self.now, self.now);
        let due = self.now.as_millis();
        let (retry, value) = (keys::retry(due, &handler, seq.0), tried.encode(RETRY));
        let bytes = size(&retry, &value);
        self.batch.remove(key);
        self.batch.put(retry, value);
        let retry = Retry { due, ready: self.steady, bytes };
        self.applies.push(Apply::Revived { handler, seq, retry });
        Ok(())
    }

    fn discard(&mut self, shared: &Shared, id: DeadLetterId) -> Result<(), QueueError> {
        find(shared, &id)?;
        self.batch.remove(keys::dead_key(&id));
        self.applies.push(Apply::Discarded(id));
        Ok(())
    }

    /// In memory it is done at once: what is settled while this is written counts after it. Should
    /// it not be written, the reopening brings the cursor forward again.
    fn replay(
        &mut self,
        shared: &Shared,
        view: &View,
        handler: &HandlerName,
        from: ReplayFrom,
    ) -> Result<u64, QueueError> {
        let (oldest, next) = {
            let mut state = shared.state();
            state.handler(handler)?;
            (state.oldest, state.next)
        };
        let start = match from {
            ReplayFrom::Oldest => oldest,
            ReplayFrom::Seq(seq) => seq.0.max(oldest),
            ReplayFrom::Time(time) => first_since(view, time, oldest, next)?,
        };
        let mut state = shared.state();
        let handler_state = state.handler(handler)?;
        if start > handler_state.window.low() {
            return Err(QueueError::NotSoFar(Seq(handler_state.window.low())));
        }
        let events = handler_state.replay(start);
        self.cursor(handler, handler_state);
        self.applies.push(Apply::Replayed(handler.clone()));
        drop(state);
        tracing::info!(%handler, from = start, events, "a replay begins");
        Ok(events)
    }

    /// Writes down a handler's cursor as it is. A retry that succeeded goes with it: it must not be
    /// found on disk beside another delivery of its event.
    fn cursor(&mut self, handler: &HandlerName, handler_state: &HandlerState) {
        self.batch.put(keys::cursor(handler), handler_state.cursor().encode());
        let retries: Vec<_> =
            handler_state.succeeded.iter().map(|(seq, due)| (*seq, *due)).collect();
        for (seq, due) in &retries {
            self.batch.remove(keys::retry(*due, handler, *seq));
        }
        self.applies.push(Apply::Deleted { handler: handler.clone(), retries });
    }

    fn pause(
        &mut self,
        shared: &Shared,
        handler: HandlerName,
        paused: bool,
    ) -> Result<(), QueueError> {
        let cursor = Cursor { paused, ..shared.state().handler(&handler)?.cursor() };
        self.batch.put(keys::cursor(&handler), cursor.encode());
        tracing::info!(%handler, paused, "paused or resumed");
        self.applies.push(Apply::Paused { handler, paused });
        Ok(())
    }
}

fn find(shared: &Shared, id: &DeadLetterId) -> Result<(), QueueError> {
    let there = shared.state().dead.contains(id);
    if there { Ok(()) } else { Err(QueueError::NotFound) }
}

fn unreadable(error: &impl ToString) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

/// The first event that was stored then or later, or the one that is next. Records are stored one
/// after the other, so it is looked for by halves.
fn first_since(view: &View, time: Timestamp, oldest: u64, next: u64) -> Result<u64, QueueError> {
    let (mut low, mut high) = (oldest, next);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = view.range(keys::event(low)..=keys::event(middle)).next_back();
        let (_, value) = entry.ok_or(QueueError::NotFound)?.map_err(|e| unreadable(&e))?;
        let head = Head::decode(&value).map_err(|e| unreadable(&e))?;
        (low, high) = if head.received < time { (head.end(), high) } else { (low, head.first) };
    }
    Ok(low)
}
