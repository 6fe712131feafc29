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
                DEAD,
                record::MISSING,
                values::{LogBounds, Tried, Undecodable, decode_bookmark},
            },
            keys,
            read_error::{ReadError, entry},
            shared::Shared,
        },
    },
    store::View,
};

/// A page of the log.
pub(crate) async fn events(
    shared: &Arc<Shared>,
    page: Page,
) -> Result<Vec<StoredEvent>, QueueError> {
    shared.read(move |view| read_page(view, page)).await
}

fn read_page(view: &View, Page { limit, newest }: Page) -> Result<Vec<StoredEvent>, ReadError> {
    let mut records = view.range(keys::all(keys::EVENTS));
    // Where the record that was read last begins or ends, on the side of the next one.
    let (mut events, mut at) = (Vec::new(), 0);
    while events.len() < limit {
        let record = if newest { records.next_back() } else { records.next() };
        let Some((key, value)) = record.transpose()? else { break };
        let Some((head, mut group)) = group(view, &key, &value)? else { continue };
        if newest {
            no_hole(view, head.end(), at)?;
            at = head.first;
            group.reverse();
        } else {
            no_hole(view, at, head.first)?;
            at = head.end();
        }
        events.extend(group);
    }
    events.truncate(limit);
    if newest {
        events.reverse();
    }
    Ok(events)
}

/// Errs if records are missing between these numbers. Those that were deleted meanwhile are not:
/// the first number of the log is written before records go.
fn no_hole(view: &View, end: u64, begin: u64) -> Result<(), ReadError> {
    if end >= begin {
        return Ok(());
    }
    let bounds = entry(view, keys::LOG, LogBounds::decode)?;
    let missing = bounds.unwrap_or_default().oldest.max(end);
    if missing < begin { Err(ReadError::Entry(keys::event(missing), MISSING)) } else { Ok(()) }
}

/// What a bookmark says.
pub(crate) async fn bookmark(
    shared: &Arc<Shared>,
    name: &BookmarkName,
) -> Result<Option<Bytes>, QueueError> {
    let key = keys::bookmark(name);
    shared.read(move |view| entry(view, &key, decode_bookmark)).await
}

/// One event of the log.
pub(crate) async fn event(shared: &Arc<Shared>, seq: Seq) -> Result<StoredEvent, QueueError> {
    let next = shared.state().next;
    let read = move |view: &View| {
        let group = group_of(view, seq.0)?;
        if group.is_none() && seq.0 < next {
            no_hole(view, seq.0, seq.0 + 1)?;
        }
        Ok(group.and_then(|(_, group)| group.event(seq.0)))
    };
    let stored = shared.read(read).await?.ok_or(QueueError::NotFound)?;
    Ok(Arc::unwrap_or_clone(stored))
}

/// A page of dead letters, by age.
pub(crate) async fn dead_letters(
    shared: &Arc<Shared>,
    handler: Option<&HandlerName>,
    page: Page,
) -> Result<Vec<DeadLetter>, QueueError> {
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
    let id = id.clone();
    shared.read(move |view| letter(view, id)).await?.ok_or(QueueError::NotFound)
}

fn letter(view: &View, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
    let key = keys::dead_key(&id);
    let decode = |value: &[u8]| {
        Ok(match &id {
            DeadLetterId::Raw(_) => {
                let Undecodable { at, failure, push } = Undecodable::decode(value)?;
                (at, 0, failure, Letter::Raw(push))
            }
            DeadLetterId::Delivery(..) => {
                let Tried { at, attempts, failure, stored, .. } = Tried::decode(DEAD, value)?;
                (at, attempts, failure, Letter::Event(stored))
            }
        })
    };
    let read = entry(view, &key, decode)?;
    Ok(read.map(|(buried, attempts, failure, letter)| DeadLetter {
        id,
        buried,
        attempts,
        failure,
        letter,
    }))
}
