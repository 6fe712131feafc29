//! Everything beside the log: cursors, retries, dead letters, undecodable pushes, parts.

use super::{
    contents::Waiting,
    walk::{Survey, Walk},
};
use crate::{
    clock::Timestamp,
    queue::{
        DeadLetterId, Seq,
        sled::{
            codec::{
                DEAD, RAW, RETRY,
                values::{Cursor, Tried, Undecodable, decided_at},
            },
            keys,
            read_error::{ReadError, whole},
        },
    },
    store::{
        Error,
        chunked::{part_of, size},
        codec::{Decoder, Kind, Malformed, Stub},
        trees::PARTS,
    },
};

const KEY: Malformed = Malformed("its key");

pub(super) fn cursors(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    for entry in walk.view.range(keys::all(keys::CURSORS)) {
        let (key, value) = entry?;
        match keys::handler_of(&key).ok_or(KEY).and_then(|of| Ok((of, Cursor::decode(&value)?))) {
            Ok((handler, cursor)) => {
                survey.contents.cursors.insert(handler, cursor);
            }
            Err(error) => walk.bad(&key, error)?,
        }
    }
    Ok(())
}

pub(super) fn retries(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    values(walk, survey, keys::RETRIES, RETRY, |survey, key, value, decided, whole| {
        let (due, handler, seq) = keys::retry_of(key).ok_or(KEY)?;
        if let Some(value) = whole {
            tried(survey, seq, Tried::decode(RETRY, value)?.stored.seq)?;
            let window = survey.contents.cursors.get(&handler).map(|cursor| &cursor.window);
            if window.is_some_and(|window| window.reaches(seq) && !window.contains(seq))
                && !is_lost(survey, seq)
            {
                // The event would come twice. Out of reach, a start sees to it.
                return Err(Malformed("the handler's cursor is before it"));
            }
        }
        let due = Timestamp::from_millis(due);
        let bytes = size(key, value);
        survey.contents.live_bytes += bytes;
        survey.contents.retries.push((handler, seq, Waiting { due, decided, bytes }));
        Ok(())
    })
}

pub(super) fn dead_letters(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    values(walk, survey, keys::DEAD, DEAD, |survey, key, value, decided, whole| {
        // Its event may come again all the same, after a replay.
        let (handler, seq) = keys::dead_of(key).ok_or(KEY)?;
        if let Some(value) = whole {
            tried(survey, seq, Tried::decode(DEAD, value)?.stored.seq)?;
        }
        bury(survey, DeadLetterId::Delivery(handler, Seq(seq)), decided, size(key, value));
        Ok(())
    })
}

pub(super) fn undecodable(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    values(walk, survey, keys::RAW, RAW, |survey, key, value, decided, whole| {
        let number = keys::number_of(key).ok_or(KEY)?;
        if let Some(value) = whole {
            Undecodable::decode(value)?;
        }
        survey.contents.next_raw = survey.contents.next_raw.max(number.saturating_add(1));
        bury(survey, DeadLetterId::Raw(number), decided, size(key, value));
        Ok(())
    })
}

fn bury(survey: &mut Survey, id: DeadLetterId, at: Timestamp, bytes: u64) {
    survey.contents.live_bytes += bytes;
    survey.contents.dead.push((id, at, bytes));
}

/// Takes the values of one kind in, with when they were decided on; in a verification with their
/// whole value, too.
fn values(
    walk: &mut Walk<'_>,
    survey: &mut Survey,
    prefix: u8,
    kind: Kind,
    mut take: impl FnMut(&mut Survey, &[u8], &[u8], Timestamp, Option<&[u8]>) -> Result<(), Malformed>,
) -> Result<(), Error> {
    for entry in walk.view.range(keys::all(prefix)) {
        let (key, value) = entry?;
        let deep = walk.is_deep();
        let whole = if deep || Stub::of(&value).is_some() {
            match whole(walk.view, &key, &value) {
                Ok(whole) => Some(whole.unwrap_or_default()),
                Err(ReadError::Store(error)) => return Err(error),
                Err(ReadError::Damaged(error) | ReadError::Entry(_, error)) => {
                    walk.bad(&key, error)?;
                    continue;
                }
            }
        } else {
            None
        };
        let whole = whole.as_deref();
        let taken = whole.map_or(Ok(()), |whole| Decoder::open(kind, whole).map(drop));
        let taken = taken
            .and_then(|()| decided_at(kind, &value))
            .and_then(|decided| take(survey, &key, &value, decided, whole.filter(|_| deep)));
        if let Err(error) = taken {
            walk.bad(&key, error)?;
        }
    }
    Ok(())
}

fn tried(survey: &Survey, seq: u64, stored: Seq) -> Result<(), Malformed> {
    if stored.0 != seq {
        return Err(Malformed("it is of another event than its key says"));
    }
    if seq >= survey.contents.bounds.next {
        return Err(Malformed("its number was never given"));
    }
    Ok(())
}

fn is_lost(survey: &Survey, seq: u64) -> bool {
    survey.lost.iter().chain(&survey.holes).any(|(first, end)| (*first..*end).contains(&seq))
}

/// Parts of a whole value were read with it; here only those are found that belong to none.
pub(super) fn parts(walk: &mut Walk<'_>) -> Result<(), Error> {
    for entry in walk.view.range(keys::all(PARTS)) {
        let (key, _) = entry?;
        let Some((of, index)) = part_of(&key) else {
            walk.bad(&key, KEY)?;
            continue;
        };
        let owner = walk.view.get(of)?;
        let parts = owner.as_deref().and_then(Stub::of).map_or(0, |stub| stub.parts());
        if !(1..=parts).contains(&usize::try_from(index).unwrap_or(0)) {
            walk.bad(&key, Malformed("it belongs to nothing"))?;
        }
    }
    Ok(())
}

/// Entries that the queue has no name for.
pub(super) fn strangers(walk: &mut Walk<'_>) -> Result<(), Error> {
    for entry in walk.view.entries() {
        let (key, _) = entry?;
        if !keys::is_known(&key) {
            walk.bad(&key, Malformed("it is none of ours"))?;
        }
    }
    Ok(())
}
