//! What is in the queue, for people: pages of events and dead letters, and the census.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sled::IVec;

use super::{
    database::Db,
    entry::{Tried, Undecodable, decode_number, decode_place},
    keys, long,
    reader::{ReadError, Shared, group, group_of},
    record::{Head, MISSING},
    state::{Place, State},
    wire::Kind,
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        BookmarkName, Census, DeadLetter, DeadLetterId, HandlerCensus, Letter, Page, QueueError,
        Seq, StoredEvent,
    },
};

/// A page of the log.
pub(super) async fn events(
    shared: &Arc<Shared>,
    page: Page,
) -> Result<Vec<StoredEvent>, QueueError> {
    open(shared)?;
    shared
        .read(move |db| if page.newest { newest(db, page.limit) } else { oldest(db, page.limit) })
        .await
}

fn oldest(db: &Db, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
    let (mut events, mut end) = (Vec::new(), 0);
    for entry in db.range(keys::all(keys::EVENTS)) {
        if events.len() >= limit {
            break;
        }
        let Some((head, group)) = read(db, entry?)? else { continue };
        no_hole(db, end, head.first)?;
        end = head.end();
        events.extend(group);
    }
    events.truncate(limit);
    Ok(events)
}

fn newest(db: &Db, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
    let (mut events, mut begin) = (Vec::new(), None);
    for entry in db.range(keys::all(keys::EVENTS)).rev() {
        if events.len() >= limit {
            break;
        }
        let Some((head, group)) = read(db, entry?)? else { continue };
        no_hole(db, head.end(), begin.unwrap_or(head.end()))?;
        begin = Some(head.first);
        events.extend(group.into_iter().rev());
    }
    events.truncate(limit);
    events.reverse();
    Ok(events)
}

/// None if it was deleted meanwhile.
fn read(
    db: &Db,
    (key, value): (IVec, IVec),
) -> Result<Option<(Head, Vec<StoredEvent>)>, ReadError> {
    group(db, &key, &value).map_err(|error| error.of(&key))
}

/// Errs if records are missing between these numbers. Those that were deleted meanwhile are not:
/// the first number of the log is written before records go.
fn no_hole(db: &Db, end: u64, begin: u64) -> Result<(), ReadError> {
    if end >= begin {
        return Ok(());
    }
    let oldest = db.get(keys::OLDEST)?.map_or(Ok(1), |value| decode_number(&value));
    let missing = oldest.map_err(|error| ReadError::Damaged(error).of(keys::OLDEST))?.max(end);
    if missing < begin {
        Err(ReadError::Damaged(MISSING).of(&keys::event(missing)))
    } else {
        Ok(())
    }
}

/// What a bookmark says.
pub(super) async fn bookmark(
    shared: &Arc<Shared>,
    name: &BookmarkName,
) -> Result<Option<Bytes>, QueueError> {
    open(shared)?;
    let key = keys::bookmark(name);
    let read = move |db: &Db| Ok(db.get(key)?.map(|value| decode_place(&value)).transpose()?);
    shared.read(read).await
}

/// One event of the log.
pub(super) async fn event(shared: &Arc<Shared>, seq: Seq) -> Result<StoredEvent, QueueError> {
    open(shared)?;
    let next = shared.state().next;
    let read = move |db: &Db| {
        let group = group_of(db, seq.0)?;
        if group.is_none() && seq.0 < next {
            no_hole(db, seq.0, seq.0 + 1)?;
        }
        Ok(group)
    };
    let group = shared.read(read).await?;
    let stored = group.and_then(|group| group.event(seq.0)).ok_or(QueueError::NotFound)?;
    Ok(StoredEvent::clone(&stored))
}

/// A page of dead letters, by age.
pub(super) async fn dead_letters(
    shared: &Arc<Shared>,
    handler: Option<&HandlerName>,
    page: Page,
) -> Result<Vec<DeadLetter>, QueueError> {
    open(shared)?;
    let ids = {
        let state = shared.state();
        if handler.is_some_and(|handler| !state.places.contains_key(handler)) {
            return Err(QueueError::NotFound);
        }
        let ours = state.dead.by_age.iter().map(|(_, id)| id).filter(|id| match id {
            DeadLetterId::Raw(_) => handler.is_none(),
            DeadLetterId::Delivery(of, _) => handler.is_none_or(|handler| handler == of),
        });
        let mut ids: Vec<_> = if page.newest {
            ours.rev().take(page.limit).cloned().collect()
        } else {
            ours.take(page.limit).cloned().collect()
        };
        if page.newest {
            ids.reverse();
        }
        ids
    };
    // One that is discarded meanwhile is left out.
    shared
        .read(move |db| ids.into_iter().filter_map(|id| letter(db, id).transpose()).collect())
        .await
}

/// One dead letter.
pub(super) async fn dead_letter(
    shared: &Arc<Shared>,
    id: &DeadLetterId,
) -> Result<DeadLetter, QueueError> {
    open(shared)?;
    let id = id.clone();
    shared.read(move |db| letter(db, id)).await?.ok_or(QueueError::NotFound)
}

fn letter(db: &Db, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
    let key = keys::dead_key(&id);
    let Some(value) = db.get(&key)? else { return Ok(None) };
    let Some(value) = long::whole(db, &key, &value)? else { return Ok(None) };
    let (buried, attempts, failure, letter) = match &id {
        DeadLetterId::Raw(_) => {
            let Undecodable { at, failure, push } = Undecodable::decode(&value)?;
            (at, 0, failure, Letter::Raw(push))
        }
        DeadLetterId::Delivery(..) => {
            let tried = Tried::decode(Kind::Dead, &value)?;
            (tried.at, tried.attempts, tried.failure, Letter::Event(tried.stored))
        }
    };
    Ok(Some(DeadLetter { id, buried, attempts, failure, letter }))
}

/// The oldest thing that a handler has to do: an event of the log, or a retry and its due time.
type Oldest = BTreeMap<HandlerName, (u64, Option<u64>)>;

/// What is in it.
pub(super) async fn census(shared: &Arc<Shared>) -> Result<Census, QueueError> {
    open(shared)?;
    let (mut census, oldest) = count(&shared.state());
    let times =
        shared.read(move |db| oldest.into_iter().map(|o| received(db, o)).collect()).await?;
    let mut times: BTreeMap<HandlerName, Option<Timestamp>> = times;
    for handler in &mut census.handlers {
        handler.oldest = times.remove(&handler.name).flatten();
    }
    Ok(census)
}

fn count(state: &State) -> (Census, Oldest) {
    let census = Census {
        events: state.next.saturating_sub(state.oldest),
        live_bytes: state.live_bytes,
        dedup_ids: state.dedup_ids,
        raw_dead_letters: state.dead.raw,
        handlers: state.places.iter().map(|(name, place)| one(state, name, place)).collect(),
    };
    let oldest = state.places.iter().filter_map(|(name, place)| {
        let low = place.window.low().max(state.oldest);
        let event = (low < state.next).then_some((low, None));
        let retry = place.retries.oldest().map(|(seq, due)| (seq, Some(due)));
        Some((name.clone(), event.into_iter().chain(retry).min_by_key(|(seq, _)| *seq)?))
    });
    (census, oldest.collect())
}

fn one(state: &State, name: &HandlerName, place: &Place) -> HandlerCensus {
    let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    HandlerCensus {
        name: name.clone(),
        configured: place.configured,
        pending: place.pending(state.oldest, state.next),
        retrying: number(place.retries.waiting()),
        in_flight: number(place.leased.len()),
        dead_letters: place.dead,
        paused: place.paused,
        oldest: None,
    }
}

fn received(
    db: &Db,
    (handler, (seq, due)): (HandlerName, (u64, Option<u64>)),
) -> Result<(HandlerName, Option<Timestamp>), ReadError> {
    let at = match due {
        Some(due) => {
            let key = keys::retry(due, &handler, seq);
            let value = db.get(&key)?;
            let whole = value.as_ref().map(|value| long::whole(db, &key, value)).transpose()?;
            let tried = whole.flatten().map(|value| Tried::decode(Kind::Retry, &value));
            tried.transpose()?.map(|tried| tried.stored.received)
        }
        // Damage is told by what delivers; a census says all the rest.
        None => match db.range(keys::event(0)..=keys::event(seq)).next_back() {
            Some(entry) => {
                let head = Head::decode(&entry?.1).ok().filter(|head| seq < head.end());
                head.map(|head| head.received)
            }
            None => None,
        },
    };
    Ok((handler, at))
}

fn open(shared: &Shared) -> Result<(), QueueError> {
    if shared.state().closed { Err(QueueError::Closed) } else { Ok(()) }
}
