//! What is in the queue, in numbers.

use std::sync::Arc;

use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        Census, HandlerCensus, QueueError,
        sled::{
            codec::{RETRY, record::Head, values::Tried},
            keys,
            read_error::{ReadError, entry},
            shared::Shared,
            state::{State, handler::HandlerState},
        },
    },
    store::{Error, View},
};

/// The oldest thing that a handler has to do: an event of the log, or a retry and its due time.
type Oldest = Option<(u64, Option<u64>)>;

/// How much is in it.
pub(crate) async fn census(shared: &Arc<Shared>) -> Result<Census, QueueError> {
    let (mut census, oldest) = count(&shared.state());
    let names: Vec<_> = census.handlers.iter().map(|handler| handler.name.clone()).collect();
    let read = move |view: &View| {
        names.iter().zip(oldest).map(|(name, oldest)| received(view, name, oldest)).collect()
    };
    let times: Vec<Option<Timestamp>> = shared.read(read).await?;
    for (handler, time) in census.handlers.iter_mut().zip(times) {
        handler.oldest = time;
    }
    Ok(census)
}

/// A census without times, and what each handler's is the time of.
fn count(state: &State) -> (Census, Vec<Oldest>) {
    let census = Census {
        events: state.next.saturating_sub(state.oldest),
        live_bytes: state.live_bytes(),
        dedup_ids: state.dedup_ids,
        raw_dead_letters: state.dead.raw(),
        handlers: state.handlers.iter().map(|(name, of)| handler(state, name, of)).collect(),
    };
    let oldest = state.handlers.values().map(|of| {
        let low = of.window.low().max(state.oldest);
        let event = (low < state.next).then_some((low, None));
        let retry = of.retries.all().next().map(|(seq, due)| (seq, Some(due)));
        event.into_iter().chain(retry).min_by_key(|(seq, _)| *seq)
    });
    (census, oldest.collect())
}

fn handler(state: &State, name: &HandlerName, of: &HandlerState) -> HandlerCensus {
    let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    HandlerCensus {
        name: name.clone(),
        configured: of.configured,
        pending: of.pending(state.oldest, state.next),
        retrying: number(of.retries.waiting()),
        in_flight: number(of.leased.len()),
        dead_letters: state.dead.of(name),
        paused: of.paused,
        oldest: None,
    }
}

/// When it was stored. Damage is told by what delivers; a census says all the rest.
fn received(
    view: &View,
    handler: &HandlerName,
    oldest: Oldest,
) -> Result<Option<Timestamp>, ReadError> {
    let received = match oldest {
        None => return Ok(None),
        Some((seq, Some(due))) => {
            let decode = |value: &[u8]| Ok(Tried::decode(RETRY, value)?.stored.received);
            entry(view, &keys::retry(due, handler, seq), decode)
        }
        Some((seq, None)) => event_received(view, seq),
    };
    match received {
        Err(ReadError::Store(Error::Damaged(_)) | ReadError::Damaged(_) | ReadError::Entry(..)) => {
            Ok(None)
        }
        received => received,
    }
}

fn event_received(view: &View, seq: u64) -> Result<Option<Timestamp>, ReadError> {
    let entry = view.range(keys::event(0)..=keys::event(seq)).next_back().transpose()?;
    let head = entry.and_then(|(_, value)| Head::decode(&value).ok());
    Ok(head.filter(|head| seq < head.end()).map(|head| head.received))
}
