//! What the writer does between commits: it writes down settled deliveries, deletes what every
//! handler is past, packs ids, lets them leave the window, holds the dead letters to their bounds,
//! and forgets handlers, piece by piece.

use std::{collections::BTreeMap, time::Duration};

use super::{
    commit::{Answer, Commit},
    engine::Engine,
};
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
            dedup::runs::Bounds,
            keys,
            shared::Shared,
        },
    },
    store::{Batch, Error, Slice, View, chunked::size, codec::Malformed},
};

/// Entries that one commit deletes, at most.
const PIECE: usize = 1024;
/// A cursor is written down this often even if nothing happens, to know when it was last used.
const SEEN: Duration = Duration::from_secs(24 * 3600);
/// How long a handler that left the configuration is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Handlers that are to be forgotten, and whom to tell.
pub(crate) type Forgetting = BTreeMap<HandlerName, Vec<Answer<()>>>;

/// Everything that has become due for writing or deleting.
pub(crate) fn upkeep(engine: &mut Engine, forgetting: &mut Forgetting) -> Result<(), Error> {
    engine.more = false;
    expire(engine)?;
    tidy(engine)?;
    forget(engine, forgetting)?;
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
pub(super) fn expire(engine: &mut Engine) -> Result<(), Error> {
    let before = engine.dedup.runs.ids_from();
    let max = engine.shared.options.dedup_max;
    let ends_before = too_old(&engine.shared, engine.shared.options.dedup_window);
    for count in 0..=PIECE {
        let Some(oldest) = engine.dedup.runs.oldest() else { break };
        let is_old = ends_before.is_some_and(|time| oldest.received < time);
        if !is_old && engine.dedup.known.len() <= max {
            break;
        }
        engine.more |= count == PIECE;
        let view = engine.view()?.clone();
        let read = |first| ids_of_run(&engine.shared, &view, first);
        if count == PIECE || !engine.dedup.pass_oldest(read)? {
            break;
        }
    }
    if engine.dedup.runs.ids_from() == before {
        return Ok(());
    }
    let oldest = engine.shared.state().oldest;
    let mut batch = Batch::new();
    bounds(engine, oldest, &mut batch);
    engine.commit(batch)
}

/// The ids of a run; `None` if it is damaged. Then they stay, since nobody knows which they are.
fn ids_of_run(shared: &Shared, view: &View, first: u64) -> Result<Option<Vec<Id>>, Error> {
    let key = keys::ids(first);
    Ok(undamaged(shared, view, &key, Run::of)?.map(|(run, _)| run.head.ids))
}

/// An entry that must be there, and its value; `None` if it is damaged or missing, which is told.
fn undamaged<T>(
    shared: &Shared,
    view: &View,
    key: &[u8],
    decode: impl FnOnce(&[u8], &[u8]) -> Result<T, Malformed>,
) -> Result<Option<(T, Slice)>, Error> {
    let value = match view.get(key) {
        Err(Error::Damaged(why)) => {
            shared.tell(&why);
            return Ok(None);
        }
        value => value?,
    };
    let read = value.ok_or(MISSING).and_then(|value| Ok((decode(key, &value)?, value)));
    read.map(Some).or_else(|error| {
        shared.damaged(key, error);
        Ok(None)
    })
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
fn tidy(engine: &mut Engine) -> Result<(), Error> {
    let mut commit = Commit::new(&engine.shared);
    cursors(&engine.shared, &mut commit);
    let Passed { end, bytes, records } = passed(engine)?;
    let pack_to = if std::mem::take(&mut engine.tidy_due) { u64::MAX } else { end };
    let options = &engine.shared.options;
    let run_bounds = Bounds::of_window(options.dedup_window, options.dedup_max);
    for run in engine.dedup.runs.pack(pack_to, run_bounds) {
        commit.batch.put(keys::ids(run.head.first), run.encode());
    }
    // Behind the runs: one that was just packed may be of no more use.
    if !records.is_empty() {
        bounds(engine, end, &mut commit.batch);
    }
    let dropped = surplus(&engine.shared, &mut commit);
    engine.more |= records.len() == PIECE || dropped == PIECE;
    // Behind the bounds: whoever finds a record gone finds that it was to go.
    for key in records {
        commit.batch.remove(key);
    }
    commit.then(move |state| {
        state.oldest = state.oldest.max(end);
        state.log_bytes = state.log_bytes.saturating_sub(bytes);
    });
    engine.write(commit)?;
    engine.shared.metrics.dead_letters_dropped.inc_by(u64::try_from(dropped).unwrap_or(0));
    Ok(())
}

/// The cursors of handlers that have settled something since theirs was written.
fn cursors(shared: &Shared, commit: &mut Commit) {
    for (name, handler) in &mut shared.state().handlers {
        if handler.configured && commit.now.since(handler.seen) > SEEN {
            (handler.seen, handler.unwritten) = (commit.now, handler.unwritten + 1);
        }
        if handler.unwritten > 0 {
            commit.cursor(name, handler);
        }
    }
}

/// Records that go, their bytes, and where the log begins then.
struct Passed {
    end: u64,
    bytes: u64,
    records: Vec<Vec<u8>>,
}

/// Records that all handlers are past, and that need not be kept for their age. It ends before one
/// that is damaged, or not where it should be: what is missing must be seen, not passed by.
fn passed(engine: &Engine) -> Result<Passed, Error> {
    let shared = &engine.shared;
    let (oldest, settled) = {
        let state = shared.state();
        (state.oldest, state.settled_by_all())
    };
    let mut passed = Passed { end: oldest, bytes: 0, records: Vec::new() };
    let retain = shared.options.retain;
    let any_age = retain.is_zero().then_some(Timestamp::from_millis(u64::MAX));
    let Some(stored_before) = any_age.or_else(|| too_old(shared, retain)) else {
        return Ok(passed);
    };
    while passed.end < settled && passed.records.len() < PIECE {
        let key = keys::event(passed.end);
        let Some((head, value)) = undamaged(shared, engine.view()?, &key, Head::of)? else { break };
        if head.end() > settled || head.received > stored_before {
            break;
        }
        passed.end = head.end();
        passed.bytes += size(&key, &value);
        passed.records.push(key);
    }
    Ok(passed)
}

/// Drops dead letters beyond their bounds, oldest first; their number.
fn surplus(shared: &Shared, commit: &mut Commit) -> usize {
    let bounds = shared.options.dead_letters;
    let buried_before = too_old(shared, bounds.age);
    let surplus = shared.state().dead.surplus((bounds.max, bounds.bytes), buried_before, PIECE);
    let count = surplus.len();
    if count > 0 {
        tracing::error!(
            dead_letters = count,
            "dropped the oldest dead letters: they were too many, too large or too old"
        );
        commit.remove_dead(surplus);
    }
    count
}

/// Forgets a piece of a handler: one that was asked for, or that left the configuration long ago.
/// Its cursor goes last, so that a crash between two pieces leaves a handler to be forgotten.
fn forget(engine: &mut Engine, forgetting: &mut Forgetting) -> Result<(), Error> {
    let asked = forgetting.keys().next().cloned();
    let Some(name) = asked.or_else(|| long_gone(&engine.shared)) else { return Ok(()) };
    let (retries, dead) = piece(&engine.shared, &name);
    let is_last = retries.len() + dead.len() < PIECE;
    let mut commit = Commit::new(&engine.shared);
    for (seq, due) in &retries {
        commit.batch.remove(keys::retry(*due, &name, *seq));
    }
    commit.remove_dead(dead);
    if is_last {
        commit.batch.remove(keys::cursor(&name));
        for answer in forgetting.remove(&name).into_iter().flatten() {
            commit.answer(answer, Ok(()));
        }
    }
    commit.then(move |state| {
        if is_last {
            state.handlers.remove(&name);
            tracing::info!(handler = %name, "forgotten");
        } else if let Some(handler) = state.handlers.get_mut(&name) {
            for (seq, _) in &retries {
                handler.retries.remove(*seq);
            }
        }
    });
    engine.more = true;
    engine.write(commit)
}

fn long_gone(shared: &Shared) -> Option<HandlerName> {
    let before = too_old(shared, KEPT)?;
    let state = shared.state();
    let gone = state.handlers.iter().find(|(_, of)| !of.configured && of.seen < before);
    gone.map(|(name, _)| name.clone())
}

/// What goes of a handler in one commit: retries with their due times, and dead letters.
fn piece(shared: &Shared, name: &HandlerName) -> (Vec<(u64, u64)>, Vec<DeadLetterId>) {
    let state = shared.state();
    let waiting = state.handlers.get(name).into_iter().flat_map(|of| of.retries.all());
    let retries: Vec<_> = waiting.take(PIECE).collect();
    let is_its = |id: &&DeadLetterId| matches!(id, DeadLetterId::Delivery(of, _) if of == name);
    let dead = state.dead.by_age().filter(is_its).take(PIECE - retries.len()).cloned().collect();
    (retries, dead)
}
