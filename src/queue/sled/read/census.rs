//! What is in the queue, in numbers.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        Census, HandlerCensus, QueueError,
        sled::{
            codec::{RETRY, record::Head, values::Tried},
            keys,
            read_error::{ReadError, whole},
            shared::Shared,
            state::{State, handler::HandlerState},
        },
    },
    store::{Error, View},
};

/// The oldest thing that a handler has to do: an event of the log, or a retry and its due time.
type Oldest = BTreeMap<HandlerName, (u64, Option<u64>)>;

/// What is in it.
pub(crate) async fn census(shared: &Arc<Shared>) -> Result<Census, QueueError> {
    shared.is_open()?;
    let (mut census, oldest) = count(&shared.state());
    let times =
        shared.read(move |view| oldest.into_iter().map(|o| received(view, o)).collect()).await?;
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
        raw_dead_letters: state.dead.raw(),
        handlers: state.handlers.iter().map(|(name, handler)| one(state, name, handler)).collect(),
    };
    let oldest = state.handlers.iter().filter_map(|(name, handler)| {
        let low = handler.window.low().max(state.oldest);
        let event = (low < state.next).then_some((low, None));
        let retry = handler.retries.oldest().map(|(seq, due)| (seq, Some(due)));
        Some((name.clone(), event.into_iter().chain(retry).min_by_key(|(seq, _)| *seq)?))
    });
    (census, oldest.collect())
}

fn one(state: &State, name: &HandlerName, handler: &HandlerState) -> HandlerCensus {
    let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    HandlerCensus {
        name: name.clone(),
        configured: handler.configured,
        pending: handler.pending(state.oldest, state.next),
        retrying: number(handler.retries.waiting()),
        in_flight: number(handler.leased.len()),
        dead_letters: handler.dead,
        paused: handler.paused,
        oldest: None,
    }
}

/// Damage is told by what delivers; a census says all the rest.
fn received(
    view: &View,
    (handler, (seq, due)): (HandlerName, (u64, Option<u64>)),
) -> Result<(HandlerName, Option<Timestamp>), ReadError> {
    match stored_at(view, &handler, seq, due) {
        Ok(at) => Ok((handler, at)),
        Err(ReadError::Store(Error::Damaged(_)) | ReadError::Damaged(_) | ReadError::Entry(..)) => {
            Ok((handler, None))
        }
        Err(error) => Err(error),
    }
}

fn stored_at(
    view: &View,
    handler: &HandlerName,
    seq: u64,
    due: Option<u64>,
) -> Result<Option<Timestamp>, ReadError> {
    Ok(match due {
        Some(due) => {
            let key = keys::retry(due, handler, seq);
            let value = view.get(&key)?;
            let whole = value.as_ref().map(|value| whole(view, &key, value)).transpose()?;
            let tried = whole.flatten().map(|value| Tried::decode(RETRY, &value));
            tried.transpose()?.map(|tried| tried.stored.received)
        }
        None => match view.range(keys::event(0)..=keys::event(seq)).next_back() {
            Some(entry) => {
                let head = Head::decode(&entry?.1).ok().filter(|head| seq < head.end());
                head.map(|head| head.received)
            }
            None => None,
        },
    })
}
