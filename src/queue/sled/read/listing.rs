//! Pages of events and dead letters, for people.

use std::sync::Arc;

use bytes::Bytes;

use super::groups::{group, group_of};
use crate::{
    name::HandlerName,
    queue::{
        BookmarkName, DeadLetter, DeadLetterId, Letter, Page, QueueError, Seq, StoredEvent,
        sled::{
            codec::{
                DEAD, Value,
                record::{Head, MISSING},
                values::{LogBounds, Tried, Undecodable},
            },
            keys,
            read_error::{ReadError, whole},
            shared::Shared,
        },
    },
    store::{Slice, View},
};

/// A page of the log.
pub(crate) async fn events(
    shared: &Arc<Shared>,
    page: Page,
) -> Result<Vec<StoredEvent>, QueueError> {
    shared.is_open()?;
    shared
        .read(
            move |view| {
                if page.newest { newest(view, page.limit) } else { oldest(view, page.limit) }
            },
        )
        .await
}

fn oldest(view: &View, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
    let (mut events, mut end) = (Vec::new(), 0);
    for entry in view.range(keys::all(keys::EVENTS)) {
        if events.len() >= limit {
            break;
        }
        let Some((head, group)) = read(view, entry?)? else { continue };
        no_hole(view, end, head.first)?;
        end = head.end();
        events.extend(group);
    }
    events.truncate(limit);
    Ok(events)
}

fn newest(view: &View, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
    let (mut events, mut begin) = (Vec::new(), None);
    for entry in view.range(keys::all(keys::EVENTS)).rev() {
        if events.len() >= limit {
            break;
        }
        let Some((head, group)) = read(view, entry?)? else { continue };
        no_hole(view, head.end(), begin.unwrap_or(head.end()))?;
        begin = Some(head.first);
        events.extend(group.into_iter().rev());
    }
    events.truncate(limit);
    events.reverse();
    Ok(events)
}

/// None if it was deleted meanwhile.
fn read(
    view: &View,
    (key, value): (Slice, Slice),
) -> Result<Option<(Head, Vec<StoredEvent>)>, ReadError> {
    group(view, &key, &value).map_err(|error| error.of(&key))
}

/// Errs if records are missing between these numbers. Those that were deleted meanwhile are not:
/// the first number of the log is written before records go.
fn no_hole(view: &View, end: u64, begin: u64) -> Result<(), ReadError> {
    if end >= begin {
        return Ok(());
    }
    let bounds = view.get(keys::LOG)?.map(|value| LogBounds::decode(&value)).transpose();
    let bounds = bounds.map_err(|error| ReadError::Damaged(error).of(keys::LOG))?;
    let missing = bounds.unwrap_or_default().oldest.max(end);
    if missing < begin {
        Err(ReadError::Damaged(MISSING).of(&keys::event(missing)))
    } else {
        Ok(())
    }
}

/// What a bookmark says.
pub(crate) async fn bookmark(
    shared: &Arc<Shared>,
    name: &BookmarkName,
) -> Result<Option<Bytes>, QueueError> {
    shared.is_open()?;
    let key = keys::bookmark(name);
    let read =
        move |view: &View| Ok(view.get(&key)?.map(|value| Bytes::decode(&value)).transpose()?);
    shared.read(read).await
}

/// One event of the log.
pub(crate) async fn event(shared: &Arc<Shared>, seq: Seq) -> Result<StoredEvent, QueueError> {
    shared.is_open()?;
    let next = shared.state().next;
    let read = move |view: &View| {
        let group = group_of(view, seq.0)?;
        if group.is_none() && seq.0 < next {
            no_hole(view, seq.0, seq.0 + 1)?;
        }
        Ok(group)
    };
    let group = shared.read(read).await?;
    let stored = group.and_then(|group| group.event(seq.0)).ok_or(QueueError::NotFound)?;
    Ok(StoredEvent::clone(&stored))
}

/// A page of dead letters, by age.
pub(crate) async fn dead_letters(
    shared: &Arc<Shared>,
    handler: Option<&HandlerName>,
    page: Page,
) -> Result<Vec<DeadLetter>, QueueError> {
    shared.is_open()?;
    let ids = {
        let state = shared.state();
        if handler.is_some_and(|handler| !state.handlers.contains_key(handler)) {
            return Err(QueueError::NotFound);
        }
        let ours = state.dead.by_age().filter(|id| match id {
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
        .read(move |view| ids.into_iter().filter_map(|id| letter(view, id).transpose()).collect())
        .await
}

/// One dead letter.
pub(crate) async fn dead_letter(
    shared: &Arc<Shared>,
    id: &DeadLetterId,
) -> Result<DeadLetter, QueueError> {
    shared.is_open()?;
    let id = id.clone();
    shared.read(move |view| letter(view, id)).await?.ok_or(QueueError::NotFound)
}

fn letter(view: &View, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
    let key = keys::dead_key(&id);
    let Some(value) = view.get(&key)? else { return Ok(None) };
    let Some(value) = whole(view, &key, &value)? else { return Ok(None) };
    let (buried, attempts, failure, letter) = match &id {
        DeadLetterId::Raw(_) => {
            let Undecodable { at, failure, push } = Undecodable::decode(&value)?;
            (at, 0, failure, Letter::Raw(push))
        }
        DeadLetterId::Delivery(..) => {
            let tried = Tried::decode(DEAD, &value)?;
            (tried.at, tried.attempts, tried.failure, Letter::Event(tried.stored))
        }
    };
    Ok(Some(DeadLetter { id, buried, attempts, failure, letter }))
}
