//! What the writer does between commits: it writes down settled deliveries, deletes what every
//! handler is past, packs ids, lets them leave the window, holds the dead letters to their bounds,
//! and forgets handlers, piece by piece.

use std::{collections::BTreeSet, time::Duration};

use super::engine::{Broken, Engine};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        DeadLetterId,
        sled::{
            codec::{
                Value,
                record::{Head, Id, MISSING},
                run::Run,
                values::LogBounds,
            },
            dedup::runs::Oldest,
            keys,
            shared::Shared,
            state::State,
        },
    },
    store::{Batch, Error, chunked::size},
};

/// Entries that one commit deletes, at most.
const PIECE: usize = 1024;
/// A cursor is written down this often even if nothing happens, to know when it was last used.
const SEEN: Duration = Duration::from_secs(24 * 3600);
/// How long a handler that left the configuration is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Settled deliveries as they are being written down.
struct Settled {
    handler: HandlerName,
    unwritten: usize,
    succeeded: Vec<(u64, u64)>,
}

/// Records that go.
#[derive(Default)]
struct Deleted {
    end: u64,
    bytes: u64,
    count: usize,
    batch: Batch,
}

/// Everything that has become due for writing or deleting.
pub(crate) fn upkeep(
    engine: &mut Engine,
    forgotten: &mut BTreeSet<HandlerName>,
) -> Result<(), Broken> {
    engine.more = false;
    expire(engine)?;
    tidy(engine)?;
    forget(engine, forgotten)?;
    engine.gauge();
    engine.look_for_room();
    engine.note(false)?;
    engine.tend()?;
    engine.compact()
}

/// The time before which things are too old, while the clock is vouched for.
fn too_old(shared: &Shared, age: Duration) -> Option<Timestamp> {
    shared.clock.vouched_now().map(|now| now.before(age))
}

/// Ids that are too old or too many leave the window, oldest first.
pub(crate) fn expire(engine: &mut Engine) -> Result<(), Broken> {
    let before = engine.dedup.runs.ids_from();
    let max = engine.shared.options.dedup_max;
    let ends_before = too_old(&engine.shared, engine.shared.options.dedup_window);
    for count in 0..=PIECE {
        let Some(oldest) = engine.dedup.runs.oldest() else { break };
        let (received, ids) = match oldest {
            Oldest::Run(run, ids) => (run.received, Some((run.first, ids))),
            Oldest::Group(received) => (received, None),
        };
        let is_old = ends_before.is_some_and(|time| received < time);
        if !is_old && engine.dedup.known.len() <= max {
            break;
        }
        if count == PIECE {
            engine.more = true;
            break;
        }
        if let Some((first, held)) = ids {
            let ids = match held {
                Some(ids) => Some(ids),
                None => ids_of_run(engine, first)?,
            };
            let Some(ids) = ids else { break };
            engine.dedup.forget(&ids);
        }
        let ids = engine.dedup.runs.pass_oldest();
        engine.dedup.forget(&ids);
    }
    if engine.dedup.runs.ids_from() == before {
        return Ok(());
    }
    let ids = u64::try_from(engine.dedup.known.len()).unwrap_or(u64::MAX);
    let oldest = {
        let mut state = engine.shared.state();
        state.dedup_ids = ids;
        state.oldest
    };
    let mut batch = Batch::new();
    bounds(engine, oldest, &mut batch);
    engine.commit(batch)
}

/// The ids of a run; `None` if it is damaged. Then they stay, since what they are is not known.
fn ids_of_run(engine: &Engine, first: u64) -> Result<Option<Vec<Id>>, Broken> {
    let key = keys::ids(first);
    let value = match engine.view()?.get(&key) {
        Err(Error::Damaged(why)) => {
            engine.shared.tell(&why);
            return Ok(None);
        }
        value => value?,
    };
    match value.map_or(Err(MISSING), |value| Run::of(&key, &value)) {
        Ok(run) => Ok(Some(run.head.ids)),
        Err(error) => {
            engine.shared.damaged(&key, error);
            Ok(None)
        }
    }
}

/// Writes down the bounds of log and window, and deletes the runs that neither needs any more.
fn bounds(engine: &mut Engine, oldest: u64, batch: &mut Batch) {
    let next = engine.shared.state().next;
    let ids_from = engine.dedup.runs.ids_from();
    batch.put(keys::LOG, LogBounds { oldest, next, ids_from }.encode());
    for first in engine.dedup.runs.release(oldest) {
        batch.remove(keys::ids(first));
    }
}

/// Writes down what is settled, and deletes what is of no more use.
fn tidy(engine: &mut Engine) -> Result<(), Broken> {
    let mut batch = Batch::new();
    let settled = cursors(&engine.shared, &mut batch);
    let deleted = passed(engine)?;
    let end = if std::mem::take(&mut engine.tidy_due) { u64::MAX } else { deleted.end };
    let runs = engine.dedup.runs.pack(end, engine.bounds());
    for run in runs {
        batch.put(keys::ids(run.head.first), run.encode());
    }
    // Behind the runs: one that was just packed may be of no more use.
    if deleted.count > 0 {
        bounds(engine, deleted.end, &mut batch);
    }
    let dead = surplus(&engine.shared, &mut batch);
    // Behind the bounds: whoever finds a record gone finds that it was to go.
    batch.append(deleted.batch);
    engine.commit(batch)?;
    let mut state = engine.shared.state();
    for Settled { handler, unwritten, succeeded } in settled {
        let Some(handler) = state.handlers.get_mut(&handler) else { continue };
        handler.unwritten = handler.unwritten.saturating_sub(unwritten);
        handler.deleted(&succeeded);
    }
    state.oldest = state.oldest.max(deleted.end);
    state.live_bytes = state.live_bytes.saturating_sub(deleted.bytes);
    for id in &dead {
        state.unbury(id);
    }
    drop(state);
    engine.more |= deleted.count == PIECE || dead.len() == PIECE;
    engine.shared.metrics.dead_letters_dropped.inc_by(u64::try_from(dead.len()).unwrap_or(0));
    Ok(())
}

fn cursors(shared: &Shared, batch: &mut Batch) -> Vec<Settled> {
    let now = shared.clock.now();
    let mut state = shared.state();
    let mut settled = Vec::new();
    for (name, handler) in &mut state.handlers {
        if handler.configured && now.since(handler.seen) > SEEN {
            (handler.seen, handler.unwritten) = (now, handler.unwritten + 1);
        }
        if handler.unwritten == 0 {
            continue;
        }
        let succeeded: Vec<_> = handler.succeeded.iter().map(|(s, d)| (*s, *d)).collect();
        for (seq, due) in &succeeded {
            batch.remove(keys::retry(*due, name, *seq));
        }
        batch.put(keys::cursor(name), handler.cursor().encode());
        let (handler, unwritten) = (name.clone(), handler.unwritten);
        settled.push(Settled { handler, unwritten, succeeded });
    }
    settled
}

/// Records that all handlers are past, and that need not be kept for their age. It ends before one
/// that is damaged, or not where it should be: what is missing must be seen, not passed by.
fn passed(engine: &Engine) -> Result<Deleted, Broken> {
    let shared = &engine.shared;
    let (oldest, settled) = {
        let state = shared.state();
        (state.oldest, state.settled_by_all())
    };
    let mut deleted = Deleted { end: oldest, ..Deleted::default() };
    let retain = shared.options.retain;
    let any_age = retain.is_zero().then_some(Timestamp::from_millis(u64::MAX));
    let Some(stored_before) = any_age.or_else(|| too_old(shared, retain)) else {
        return Ok(deleted);
    };
    while deleted.end < settled && deleted.count < PIECE {
        let key = keys::event(deleted.end);
        let value = match engine.view()?.get(&key) {
            Err(Error::Damaged(why)) => {
                shared.tell(&why);
                break;
            }
            value => value?,
        };
        let head = value.as_ref().map_or(Err(MISSING), |value| Head::of(&key, value));
        let (head, value) = match (head, value) {
            (Ok(head), Some(value)) => (head, value),
            (head, _) => {
                shared.damaged(&key, head.err().unwrap_or(MISSING));
                break;
            }
        };
        if head.end() > settled || head.received > stored_before {
            break;
        }
        deleted.end = head.end();
        deleted.bytes += size(&key, &value);
        deleted.count += 1;
        deleted.batch.remove(key);
    }
    Ok(deleted)
}

/// Dead letters beyond their bounds, oldest first.
fn surplus(shared: &Shared, batch: &mut Batch) -> Vec<DeadLetterId> {
    let bounds = shared.options.dead_letters;
    let buried_before = too_old(shared, bounds.age);
    let dead = &shared.state().dead;
    let surplus = dead.surplus((bounds.max, bounds.bytes), buried_before, PIECE);
    for id in &surplus {
        batch.remove(keys::dead_key(id));
    }
    if !surplus.is_empty() {
        tracing::error!(
            dead_letters = surplus.len(),
            "dropped the oldest dead letters: they were too many, too large or too old"
        );
    }
    surplus
}

/// What goes of a handler in one commit: retries with their due times, dead letters, and whether that
/// is all.
struct Piece {
    retries: Vec<(u64, u64)>,
    dead: Vec<DeadLetterId>,
    is_last: bool,
}

/// Forgets a piece of a handler: one that was asked for, or that left the configuration long ago.
/// Its cursor goes last, so that a crash between two pieces leaves a handler to be forgotten.
fn forget(engine: &mut Engine, asked: &mut BTreeSet<HandlerName>) -> Result<(), Broken> {
    let shared = &engine.shared;
    let name = asked.first().cloned().or_else(|| long_gone(shared));
    let Some(name) = name else { return Ok(()) };
    let Piece { retries, dead, is_last } = piece(&shared.state(), &name);
    let mut batch = Batch::new();
    for (seq, due) in &retries {
        batch.remove(keys::retry(*due, &name, *seq));
    }
    for id in &dead {
        batch.remove(keys::dead_key(id));
    }
    if is_last {
        batch.remove(keys::cursor(&name));
    }
    engine.commit(batch)?;
    let mut state = engine.shared.state();
    for (seq, due) in retries {
        state.settled(&name, seq, Some(due));
    }
    for id in &dead {
        state.unbury(id);
    }
    if is_last {
        state.handlers.remove(&name);
        asked.remove(&name);
        tracing::info!(handler = %name, "forgotten");
    }
    drop(state);
    engine.more = true;
    Ok(())
}

fn long_gone(shared: &Shared) -> Option<HandlerName> {
    let before = too_old(shared, KEPT)?;
    let state = shared.state();
    let gone = state.handlers.iter().find(|(_, of)| !of.configured && of.seen < before);
    gone.map(|(name, _)| name.clone())
}

fn piece(state: &State, name: &HandlerName) -> Piece {
    let Some(handler) = state.handlers.get(name) else {
        return Piece { retries: Vec::new(), dead: Vec::new(), is_last: true };
    };
    let waiting = handler.retries.all().map(|(seq, retry)| (seq, retry.due));
    let retries: Vec<_> = waiting.take(PIECE).collect();
    let is_ours = |id: &&DeadLetterId| matches!(id, DeadLetterId::Delivery(of, _) if of == name);
    let dead: Vec<_> =
        state.dead.ids().filter(is_ours).take(PIECE - retries.len()).cloned().collect();
    let is_last = retries.len() + dead.len() < PIECE;
    Piece { retries, dead, is_last }
}
