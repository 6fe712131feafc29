//! Pages of events and dead letters, for people.

use std::sync::Arc;

use super::groups::{group, group_of};
use crate::{
    name::HandlerName,
    queue::{
        DeadLetter, DeadLetterId, Letter, Page, QueueError, Seq, StoredEvent,
        sled::{
            codec::{
                DEAD, Value,
                record::MISSING,
                values::{LogBounds, Tried, Undecodable},
            },
            keys,
            read_error::{ReadError, entry},
            state::State,
        },
    },
    store::View,
};

/// A page of the log.
pub(crate) fn events(
    view: &View,
    Page { limit, newest }: Page,
) -> Result<Vec<StoredEvent>, ReadError> {
    let mut records = view.range(keys::all(keys::EVENTS));
    // Where the record that was read last begins or ends, on the side of the next one.
    let (mut events, mut at) = (Vec::new(), 0);
    while events.len() < limit {
        let record = if newest { records.next_back() } else { records.next() };
        let Some((key, value)) = record.transpose()? else {
            if newest {
                no_hole(view, 0, at)?;
            }
            break;
        };
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

/// One event of a log that ends before `next`.
pub(crate) fn event(view: &View, seq: Seq, next: u64) -> Result<Option<StoredEvent>, ReadError> {
    let Some((_, group)) = group_of(view, seq.0)? else {
        if seq.0 < next {
            no_hole(view, seq.0, seq.0 + 1)?;
        }
        return Ok(None);
    };
    Ok(group.event(seq.0).map(Arc::unwrap_or_clone))
}

/// The dead letters of a page, by age.
pub(crate) fn dead_ids(
    state: &State,
    handler: Option<&HandlerName>,
    Page { limit, newest }: Page,
) -> Result<Vec<DeadLetterId>, QueueError> {
    if handler.is_some_and(|handler| !state.handlers.contains_key(handler)) {
        return Err(QueueError::NotFound);
    }
    let ours = state.dead.by_age().filter(|id| match id {
        DeadLetterId::Raw(_) => handler.is_none(),
        DeadLetterId::Delivery(of, _) => handler.is_none_or(|handler| handler == of),
    });
    if !newest {
        return Ok(ours.take(limit).cloned().collect());
    }
    let mut ids: Vec<_> = ours.rev().take(limit).cloned().collect();
    ids.reverse();
    Ok(ids)
}

/// These dead letters, but for those that were discarded meanwhile.
pub(crate) fn dead_letters(
    view: &View,
    ids: Vec<DeadLetterId>,
) -> Result<Vec<DeadLetter>, ReadError> {
    ids.into_iter().filter_map(|id| dead_letter(view, id).transpose()).collect()
}

/// One dead letter.
pub(crate) fn dead_letter(view: &View, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
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
    let Some((buried, attempts, failure, letter)) = entry(view, &key, decode)? else {
        return Ok(None);
    };
    Ok(Some(DeadLetter { id, buried, attempts, failure, letter }))
}
