//! The log and its ids: whether they are whole, and belong together.

use std::collections::{BTreeSet, HashSet};

use super::walk::{Depth, Survey, Walk, numbers};
use crate::{
    queue::{
        StoredEvent,
        sled::{
            codec::{
                GROUP,
                record::{Head, Id, decode_group},
                run::{Run, RunHead},
            },
            dedup::Dedup,
            keys,
            read_error::{ReadError, whole},
        },
    },
    store::{
        Error, Slice,
        chunked::size,
        codec::{Decoder, Malformed, Stub},
    },
};

/// Reads the runs: they follow each other from where window or log begin, up to the log at least.
pub(super) fn runs(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    let bounds = survey.contents.bounds;
    let mut end = bounds.ids_from.min(bounds.oldest);
    let mut is_first = true;
    for entry in walk.view.range(keys::all(keys::IDS)) {
        let (key, value) = entry?;
        let run = match Run::of(&key, &value) {
            Ok(run) => run,
            Err(error) => {
                walk.bad(&key, error)?;
                continue;
            }
        };
        // The first one may begin earlier: it leaves as a whole.
        let follows = run.head.first == end || (is_first && run.head.first < end);
        if !follows {
            missing_ids(walk, end, run.head.first)?;
        }
        (is_first, end) = (false, end.max(run.head.end()));
        if run.head.first >= bounds.ids_from {
            survey.dedup.known.extend(&run.head.ids);
        }
        survey.dedup.runs.push_run(run);
    }
    if end < bounds.oldest {
        missing_ids(walk, end, bounds.oldest)?;
        end = bounds.oldest;
    }
    survey.packed_to = end;
    Ok(())
}

fn missing_ids(walk: &mut Walk<'_>, first: u64, end: u64) -> Result<(), Error> {
    let last = end.saturating_sub(1);
    walk.wrong(format!(
        "the ids of the events {first} to {last} are missing, or not in their place"
    ))
}

/// What is known while the log is read, from its oldest record on.
struct Reading {
    /// The number after the last record.
    end: u64,
    /// The runs whose events may be in the log, oldest first, and the bytes of the records that were
    /// read of the first of them.
    runs: std::collections::VecDeque<RunHead>,
    bytes: u64,
    /// A verification holds the ids of records beside those of their run.
    beside: Option<(RunHead, HashSet<Id>)>,
}

/// Reads the log, or what a start needs of it.
pub(super) fn log(walk: &mut Walk<'_>, survey: &mut Survey) -> Result<(), Error> {
    let bounds = survey.contents.bounds;
    let in_log: std::collections::VecDeque<RunHead> =
        survey.dedup.runs.packed().filter(|run| run.end > bounds.oldest).collect();
    let packed_bytes: u64 = in_log.iter().map(|run| run.bytes).sum();
    let mut reading = Reading { end: bounds.oldest, runs: in_log, bytes: 0, beside: None };
    if let Depth::Start { read_whole, .. } = walk.depth
        && packed_bytes > read_whole
    {
        skip(walk, survey, &mut reading)?;
    } else {
        records(walk, survey, &mut reading, 0..u64::MAX)?;
    }
    end(walk, survey, &reading)
}

fn records(
    walk: &mut Walk<'_>,
    survey: &mut Survey,
    reading: &mut Reading,
    numbers: std::ops::Range<u64>,
) -> Result<(), Error> {
    for entry in walk.view.range(keys::event(numbers.start)..keys::event(numbers.end)) {
        let (key, value) = entry?;
        match read(walk, survey, &key, &value)? {
            Ok(head) => record(walk, survey, reading, head, size(&key, &value))?,
            Err(error) => walk.bad(&key, error)?,
        }
    }
    Ok(())
}

/// A large log: the rest of the run that begins it, whose bytes are not known otherwise, and what is
/// behind the last run. Both must be where they should.
fn skip(walk: &mut Walk<'_>, survey: &mut Survey, reading: &mut Reading) -> Result<(), Error> {
    let first_run = reading.runs.front().map_or(0, |run| run.end);
    records(walk, survey, reading, 0..first_run)?;
    if reading.end < first_run {
        hole(walk, survey, reading.end, first_run)?;
    }
    let (whole, to) = (std::mem::take(&mut reading.runs), survey.packed_to);
    survey.contents.live_bytes +=
        whole.iter().filter(|run| run.first >= first_run).map(|run| run.bytes).sum::<u64>();
    let last = walk.view.range(keys::event(0)..keys::event(to)).next_back().transpose()?;
    let last = last.map(|(key, value)| Head::of(&key, &value).map_err(|error| (key, error)));
    match last.transpose() {
        Err((key, error)) => walk.bad(&key, error)?,
        Ok(head) => {
            let end = head.map_or(first_run, |head| head.end());
            if end < to {
                hole(walk, survey, end, to)?;
            }
        }
    }
    reading.end = to;
    records(walk, survey, reading, to..u64::MAX)
}

/// The head of a record that is whole, with its events in a verification.
fn read(
    walk: &Walk<'_>,
    survey: &mut Survey,
    key: &[u8],
    value: &Slice,
) -> Result<Result<Head, Malformed>, Error> {
    let is_large = Stub::of(value).is_some();
    if !walk.is_deep() && !is_large {
        return Ok(Head::of(key, value));
    }
    let value = match whole(walk.view, key, value) {
        Ok(value) => value.unwrap_or_default(),
        Err(ReadError::Store(error)) => return Err(error),
        Err(ReadError::Damaged(error) | ReadError::Entry(_, error)) => return Ok(Err(error)),
    };
    if !walk.is_deep() {
        return Ok(Decoder::open(GROUP, &value).and_then(|_| Head::of(key, &value)));
    }
    let read = || {
        let (head, events) = decode_group(&value)?;
        let head = head.checked(key)?;
        if survey.key.is_some() {
            identities(&survey.dedup, &head, &events)?;
        }
        Ok((head, events.len()))
    };
    Ok(read().map(|(head, events)| {
        survey.events += u64::try_from(events).unwrap_or(u64::MAX);
        survey.large_events += u64::from(is_large);
        if events == 0 {
            survey.lost.push((head.first, head.end()));
        }
        head
    }))
}

/// Every event brought an id, and every id was brought by an event.
fn identities(dedup: &Dedup, head: &Head, events: &[StoredEvent]) -> Result<(), Malformed> {
    let mut ids: BTreeSet<Id> = head.ids.iter().copied().collect();
    for stored in events {
        let id = |hook| dedup.id(&stored.origin, stored.event.attributes(), hook);
        let brought = ids.remove(&id(None));
        let by_hook = stored.from.iter().filter(|hook| ids.remove(&id(Some(hook)))).count();
        if !brought && by_hook == 0 {
            return Err(Malformed("an event in it has no identity"));
        }
    }
    if ids.is_empty() { Ok(()) } else { Err(Malformed("it has the identity of no event")) }
}

fn record(
    walk: &mut Walk<'_>,
    survey: &mut Survey,
    reading: &mut Reading,
    head: Head,
    bytes: u64,
) -> Result<(), Error> {
    if head.first < reading.end {
        let key = keys::event(head.first);
        return walk.bad(
            &key,
            Malformed("its events are not in the log, or in the record before it, too"),
        );
    }
    if head.first > reading.end {
        hole(walk, survey, reading.end, head.first)?;
    }
    reading.end = head.end();
    survey.contents.live_bytes += bytes;
    if head.first >= survey.packed_to {
        let ids_from = survey.contents.bounds.ids_from;
        survey.dedup.known.extend(if head.first >= ids_from { &head.ids } else { &[] });
        survey.dedup.runs.push(head, bytes);
        return Ok(());
    }
    // Ids that left the window before they were packed are in no run.
    if walk.is_deep() && head.first >= survey.contents.bounds.ids_from {
        beside_its_run(walk, reading, &head)?;
    }
    reading.bytes += bytes;
    while let Some(run) = reading.runs.front().copied().filter(|run| run.end <= reading.end) {
        reading.runs.pop_front();
        let read = std::mem::take(&mut reading.bytes);
        let whole = run.first >= survey.contents.bounds.oldest && survey.holes.is_empty();
        if run.end != reading.end {
            walk.wrong(format!("a run of ids ends at {}, where no record does", run.end))?;
        } else if whole && read != run.bytes {
            let (first, noted) = (run.first, run.bytes);
            walk.wrong(format!(
                "the events from {first} on have {read} bytes up to {}, and the run of their ids \
                 has noted {noted}",
                run.end
            ))?;
        }
    }
    Ok(())
}

/// The ids of a record are among those of its run.
fn beside_its_run(walk: &mut Walk<'_>, reading: &mut Reading, head: &Head) -> Result<(), Error> {
    if reading.beside.as_ref().is_none_or(|(run, _)| run.end <= head.first) {
        let below =
            walk.view.range(keys::ids(0)..=keys::ids(head.first)).next_back().transpose()?;
        let run = below.and_then(|(_, value)| Run::decode(&value).ok());
        reading.beside = run.map(|run| (run.head(), run.head.ids.into_iter().collect()));
    }
    // A run that is missing is told once, for all of the hole.
    if let Some((run, ids)) = &reading.beside
        && run.end > head.first
        && !head.ids.iter().all(|id| ids.contains(id))
    {
        let name = keys::name(&keys::ids(run.first));
        walk.wrong(format!("{name}: those of event {} are not among them", head.first))?;
    }
    Ok(())
}

fn hole(walk: &mut Walk<'_>, survey: &mut Survey, first: u64, end: u64) -> Result<(), Error> {
    survey.holes.push((first, end));
    walk.wrong(format!("{} missing", numbers(first, end)))
}

/// Where the log ends: nothing is noted, settled or packed beyond.
fn end(walk: &mut Walk<'_>, survey: &mut Survey, reading: &Reading) -> Result<(), Error> {
    let settled = survey.contents.cursors.values().map(|cursor| cursor.window.low()).max();
    let noted = survey.contents.bounds.next.max(settled.unwrap_or(0)).max(survey.packed_to);
    if reading.end < noted {
        hole(walk, survey, reading.end, noted)?;
    }
    survey.contents.bounds.next = reading.end.max(noted);
    Ok(())
}
