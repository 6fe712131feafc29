//! The log and its ids: whether they are whole, and belong together.

use std::collections::{BTreeSet, HashSet};

use super::{Depth, Survey, numbers};
use crate::{
    queue::{
        StoredEvent,
        sled::{
            codec::{
                Value,
                record::{Head, Id, decode_group},
                run::{Run, RunHead},
            },
            keys,
            read_error::whole_at_rest,
        },
    },
    store::{
        Error, Slice,
        chunked::size,
        codec::{Malformed, Stub},
    },
};

impl Survey {
    /// Reads the runs: they follow each other from where window or log begin, up to the log at least.
    pub(super) fn runs(&mut self) -> Result<(), Error> {
        let bounds = self.contents.bounds;
        let mut end = bounds.ids_from.min(bounds.oldest);
        let mut is_first = true;
        for entry in self.view.range(keys::all(keys::IDS)) {
            let (key, value) = entry?;
            let run = match Run::of(&key, &value) {
                Ok(run) => run,
                Err(error) => {
                    self.bad(&key, error)?;
                    continue;
                }
            };
            // The first one may begin earlier: it leaves as a whole.
            let follows = run.head.first == end || (is_first && run.head.first < end);
            if !follows {
                self.missing_ids(end, run.head.first)?;
            }
            (is_first, end) = (false, end.max(run.head.end()));
            if run.head.first >= bounds.ids_from {
                self.dedup.known.extend(&run.head.ids);
            }
            self.dedup.runs.push_run(run);
        }
        if end < bounds.oldest {
            self.missing_ids(end, bounds.oldest)?;
        }
        self.packed_to = end.max(bounds.oldest);
        Ok(())
    }

    fn missing_ids(&mut self, first: u64, end: u64) -> Result<(), Error> {
        let last = end.saturating_sub(1);
        self.wrong(format!(
            "the ids of the events {first} to {last} are missing, or not in their place"
        ))
    }

    /// Reads the log, or what a start needs of it: of a large one the rest of the run that begins it,
    /// whose bytes are not known otherwise, and what is behind the last run.
    pub(super) fn log(&mut self) -> Result<(), Error> {
        let oldest = self.contents.bounds.oldest;
        let runs: Vec<RunHead> = self.dedup.runs.packed().filter(|run| run.end > oldest).collect();
        let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
        let is_large = matches!(self.depth, Depth::Start { read_whole, .. } if bytes > read_whole);
        let (read, skipped) = runs.split_at(if is_large { 1 } else { runs.len() });
        self.end = oldest;
        let mut from = 0;
        for run in read {
            self.packed_records(run, from)?;
            from = from.max(run.end);
        }
        if is_large {
            self.skip(from, skipped)?;
            from = self.packed_to;
        }
        for entry in self.view.range(keys::event(from)..keys::event(u64::MAX)) {
            let (key, value) = entry?;
            if let Some(head) = self.record(&key, &value)? {
                let in_window = head.first >= self.contents.bounds.ids_from;
                self.dedup.known.extend(if in_window { &head.ids } else { &[] });
                self.dedup.runs.push(head, size(&key, &value));
            }
        }
        self.end_of_log()
    }

    /// Reads the records from this number to the end of a run: the run ends where one of them does,
    /// has noted their bytes, and has their ids.
    fn packed_records(&mut self, run: &RunHead, from: u64) -> Result<(), Error> {
        if from >= run.end {
            return Ok(());
        }
        let ids: HashSet<Id> = if self.is_deep() {
            let run = self.view.get(&keys::ids(run.first))?.and_then(|run| Run::decode(&run).ok());
            run.into_iter().flat_map(|run| run.head.ids).collect()
        } else {
            HashSet::new()
        };
        let mut bytes = 0;
        for entry in self.view.range(keys::event(from)..keys::event(run.end)) {
            let (key, value) = entry?;
            let Some(head) = self.record(&key, &value)?.filter(|head| head.first >= run.first)
            else {
                continue;
            };
            bytes += size(&key, &value);
            // Ids that left the window before they were packed are in no run.
            let packed = self.is_deep() && head.first >= self.contents.bounds.ids_from;
            if packed && !head.ids.iter().all(|id| ids.contains(id)) {
                let name = keys::name(&keys::ids(run.first));
                self.wrong(format!("{name}: those of event {} are not among them", head.first))?;
            }
        }
        let is_whole = run.first >= self.contents.bounds.oldest && self.holes.is_empty();
        if self.end > run.end {
            self.wrong(format!("a run of ids ends at {}, where no record does", run.end))?;
        } else if is_whole && self.end == run.end && bytes != run.bytes {
            let (first, end, noted) = (run.first, run.end, run.bytes);
            self.wrong(format!(
                "the events from {first} on have {bytes} bytes up to {end}, and the run of their \
                 ids has noted {noted}"
            ))?;
        }
        Ok(())
    }

    /// Passes by the runs of a large log but for the first, which ends at `from`; where they end, a
    /// record must end, too.
    fn skip(&mut self, from: u64, runs: &[RunHead]) -> Result<(), Error> {
        if self.end < from {
            self.hole(from)?;
        }
        self.contents.live_bytes += runs.iter().map(|run| run.bytes).sum::<u64>();
        let to = self.packed_to;
        if let Some(last) = self.view.range(keys::event(0)..keys::event(to)).next_back() {
            let (key, value) = last?;
            match Head::of(&key, &value) {
                Ok(head) => self.end = head.end(),
                Err(error) => self.bad(&key, error)?,
            }
        }
        if self.end < to {
            self.hole(to)?;
        }
        self.end = to;
        Ok(())
    }

    /// A record that is whole takes its place in the log; its head, if it has one there.
    fn record(&mut self, key: &[u8], value: &Slice) -> Result<Option<Head>, Error> {
        let whole = whole_at_rest(&self.view, key, value)?;
        let (head, events) = match whole.and_then(|whole| self.read(key, &whole)) {
            Ok((head, events)) if head.first >= self.end => (head, events),
            Ok(_) => {
                let words = "its events are not in the log, or in the record before it, too";
                return self.bad(key, Malformed(words)).map(|()| None);
            }
            Err(error) => return self.bad(key, error).map(|()| None),
        };
        if head.first > self.end {
            self.hole(head.first)?;
        }
        self.end = head.end();
        self.contents.live_bytes += size(key, value);
        if events > 0 {
            self.events += u64::try_from(events).unwrap_or(u64::MAX);
            self.large_events += u64::from(Stub::of(value).is_some());
        } else if self.is_deep() {
            self.lost.push((head.first, head.end()));
        }
        Ok(Some(head))
    }

    /// The head of a whole record, and the number of its events: those are read in a verification.
    fn read(&self, key: &[u8], whole: &[u8]) -> Result<(Head, usize), Malformed> {
        if !self.is_deep() {
            return Ok((Head::of(key, whole)?, 0));
        }
        let (head, events) = decode_group(whole)?;
        let head = head.checked(key)?;
        if self.key.is_some() {
            self.identities(&head, &events)?;
        }
        Ok((head, events.len()))
    }

    /// Every event brought an id, and every id was brought by an event.
    fn identities(&self, head: &Head, events: &[StoredEvent]) -> Result<(), Malformed> {
        let mut ids: BTreeSet<Id> = head.ids.iter().copied().collect();
        for stored in events {
            let id = |hook| self.dedup.id(&stored.origin, stored.event.attributes(), hook);
            let brought = ids.remove(&id(None));
            let by_hook = stored.from.iter().filter(|hook| ids.remove(&id(Some(hook)))).count();
            if !brought && by_hook == 0 {
                return Err(Malformed("an event in it has no identity"));
            }
        }
        if ids.is_empty() { Ok(()) } else { Err(Malformed("it has the identity of no event")) }
    }

    /// The log goes on at `next` only.
    fn hole(&mut self, next: u64) -> Result<(), Error> {
        self.holes.push((self.end, next));
        self.wrong(format!("{} missing", numbers(self.end, next)))
    }

    /// Nothing is noted, settled or packed beyond the end of the log.
    fn end_of_log(&mut self) -> Result<(), Error> {
        let settled = self.contents.cursors.values().map(|cursor| cursor.window.low()).max();
        let next = self.contents.bounds.next.max(settled.unwrap_or(0)).max(self.packed_to);
        if self.end < next {
            self.hole(next)?;
        }
        self.contents.bounds.next = self.end.max(next);
        Ok(())
    }
}
