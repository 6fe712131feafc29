//! One commit: what was asked for, what is written for it, and what is true once it is durable.
//!
//! Owns the translation of calls into a batch. It decides; the engine does.

mod operator;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use super::{apply::Apply, command::Answer};
use crate::{
    clock::Timestamp,
    event::Arrival,
    name::{HandlerName, HookName},
    queue::{
        Appended, Bookmark, Failure, QueueError, RawPush, Seq, StoredEvent, Verdict,
        sled::{
            codec::{
                DEAD, RETRY, Value,
                record::{Head, Id, MAX_EVENT, Packing, encode_event},
                values::{Cursor, Tried, Undecodable},
            },
            dedup::Dedup,
            keys,
            read::take::Receipt,
            shared::Shared,
            state::{recent, retries::Retry},
        },
    },
    store::{
        Batch,
        chunked::{MAX_VALUE, size},
    },
};

/// An answer that waits until the commit is durable.
#[derive(Debug)]
pub(crate) enum Pending {
    Appended(Answer<Vec<Appended>>, Vec<Appended>),
    Replayed(Answer<u64>, u64),
    Done(Answer<()>),
}

/// An event that will be stored.
#[derive(Debug)]
struct New {
    stored: StoredEvent,
    encoded: Vec<u8>,
    ids: Vec<Id>,
}

/// A commit being put together.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) now: Timestamp,
    pub(crate) steady: Duration,
    next: u64,
    next_raw: u64,
    new: Vec<New>,
    /// Hooks that no id was made with before.
    hooks: BTreeSet<HookName>,
    /// Ids of `new`: a second arrival of one of them waits for the same sync.
    ids: HashSet<Id>,
    cursors: BTreeMap<HandlerName, Cursor>,
    pub(crate) applies: Vec<Apply>,
    pub(crate) answers: Vec<Pending>,
    pub(crate) batch: Batch,
    /// Bytes of bodies, to know when it is large enough.
    pub(crate) bytes: usize,
}

/// What was written, to be made known once it is durable.
#[derive(Debug)]
pub(crate) struct Written {
    /// With their sizes on disk.
    pub(crate) heads: Vec<(Head, u64)>,
    pub(crate) hooks: BTreeSet<HookName>,
    groups: Vec<recent::Group>,
    event_bytes: u64,
    next: u64,
    next_raw: u64,
    applies: Vec<Apply>,
    answers: Vec<Pending>,
}

impl Commit {
    pub(crate) fn new(shared: &Shared) -> Self {
        let state = shared.state();
        Self {
            now: shared.clock.now(),
            steady: shared.clock.steady(),
            next: state.next,
            next_raw: state.next_raw,
            new: Vec::new(),
            hooks: BTreeSet::new(),
            ids: HashSet::new(),
            cursors: BTreeMap::new(),
            applies: Vec::new(),
            answers: Vec::new(),
            batch: Batch::new(),
            bytes: 0,
        }
    }

    /// The number of events and other calls in it.
    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.applies.len() + self.answers.len()
    }

    /// All of the arrivals and the bookmark, or nothing.
    pub(crate) fn append(
        &mut self,
        dedup: &Dedup,
        arrivals: Vec<Arrival>,
        bookmark: Option<Bookmark>,
        answer: Answer<Vec<Appended>>,
    ) {
        if arrivals.iter().any(|arrival| !fits(arrival)) {
            drop(answer.send(Err(TOO_LARGE)));
            return;
        }
        if let Some(Bookmark { name, place }) = bookmark {
            self.batch.put(keys::bookmark(&name), place.encode());
        }
        let results = arrivals.into_iter().map(|arrival| self.arrive(dedup, arrival)).collect();
        self.answers.push(Pending::Appended(answer, results));
    }

    fn arrive(&mut self, dedup: &Dedup, arrival: Arrival) -> Appended {
        let Arrival { event, origin, from, only_by_hook } = arrival;
        let known = |id: &Id| dedup.known.contains(id) || self.ids.contains(id);
        let main = dedup.id(&origin, event.attributes(), None);
        let by_hook =
            only_by_hook.as_ref().map(|hook| dedup.id(&origin, event.attributes(), Some(hook)));
        if known(by_hook.as_ref().unwrap_or(&main)) {
            return Appended::Duplicate;
        }
        let ids: Vec<Id> =
            [Some(main), by_hook].into_iter().flatten().filter(|i| !known(i)).collect();
        let new_hook = only_by_hook.clone().filter(|hook| !dedup.hooks.contains(hook));
        let (from, already) = match only_by_hook {
            Some(hook) if known(&main) => {
                let by = |name: &HookName| dedup.id(&origin, event.attributes(), Some(name));
                let came_by = dedup.hooks.union(&self.hooks).filter(|name| known(&by(name)));
                let already: BTreeSet<_> = from.iter().chain(came_by).collect();
                let already = already.into_iter().filter(|name| **name != hook).cloned().collect();
                (vec![hook], already)
            }
            Some(_) | None => (from, Vec::new()),
        };
        if let Some(hook) = new_hook {
            self.hooks.insert(hook);
        }
        let seq = Seq(self.next);
        self.next += 1;
        self.ids.extend(&ids);
        self.bytes += event.json().len();
        let stored = StoredEvent { seq, received: self.now, origin, from, already, event };
        self.new.push(New { encoded: encode_event(&stored), stored, ids });
        Appended::Stored(seq)
    }

    pub(crate) fn bury_raw(&mut self, push: RawPush, failure: Failure, answer: Answer<()>) {
        let value = Undecodable { at: self.now, failure, push }.encode();
        if value.len() > MAX_VALUE {
            drop(answer.send(Err(TOO_LARGE)));
            return;
        }
        let (number, key) = (self.next_raw, keys::raw(self.next_raw));
        self.next_raw += 1;
        self.bytes += value.len();
        let bytes = size(&key, &value);
        self.batch.put(key, value);
        self.batch.put(keys::NEXT_RAW, self.next_raw.encode());
        self.applies.push(Apply::RawBuried { number, at: self.now, bytes });
        self.answers.push(Pending::Done(answer));
    }

    /// A retry or a dead letter, with the step of the handler's place.
    pub(crate) fn settle(
        &mut self,
        shared: &Shared,
        receipt: Box<Receipt>,
        verdict: Verdict,
        answer: Answer<()>,
    ) {
        let (delay, failure) = match verdict {
            Verdict::RetryAfter(delay, failure) => (Some(delay), failure),
            Verdict::Bury(failure) => (None, failure),
            // Settled in memory, without the writer.
            Verdict::Done => return,
        };
        let (seq, handler) = (receipt.lease.seq, &receipt.lease.handler);
        let on_disk = shared.state().due_on_disk(handler, seq, receipt.lease.due);
        match on_disk {
            Some(due) => self.batch.remove(keys::retry(due, handler, seq)),
            None => self.step(shared, handler, seq),
        }
        let at = self.now;
        let tried = Tried {
            at,
            attempts: receipt.attempt,
            since: receipt.since,
            failure,
            stored: StoredEvent::clone(&receipt.stored),
        };
        let due = delay.map(|delay| at.after(delay).as_millis());
        let (key, value) = match due {
            Some(due) => (keys::retry(due, handler, seq), tried.encode(RETRY)),
            None => (keys::dead(handler, seq), tried.encode(DEAD)),
        };
        let bytes = size(&key, &value);
        self.bytes += value.len();
        self.batch.put(key, value);
        self.applies.push(match (due, delay) {
            (Some(due), Some(delay)) => {
                let ready = self.steady.saturating_add(delay);
                Apply::Retried { receipt, retry: Retry { due, ready, bytes } }
            }
            _ => Apply::Buried { receipt, at, bytes },
        });
        self.answers.push(Pending::Done(answer));
    }

    fn step(&mut self, shared: &Shared, handler: &HandlerName, seq: u64) {
        if !self.cursors.contains_key(handler)
            && let Some(state) = shared.state().handlers.get(handler)
        {
            self.cursors.insert(handler.clone(), state.cursor());
        }
        if let Some(cursor) = self.cursors.get_mut(handler) {
            cursor.window.settle(seq);
        }
    }

    /// The batch to write, and what to make known once it is durable.
    pub(crate) fn seal(mut self, dedup: &Dedup) -> (Batch, Written) {
        if !self.hooks.is_empty() {
            self.batch.put(keys::HOOKS, (&dedup.hooks | &self.hooks).encode());
        }
        let mut written = Written {
            heads: Vec::new(),
            hooks: self.hooks,
            groups: Vec::new(),
            event_bytes: 0,
            next: self.next,
            next_raw: self.next_raw,
            applies: self.applies,
            answers: self.answers,
        };
        for (handler, cursor) in self.cursors {
            self.batch.put(keys::cursor(&handler), cursor.encode());
        }
        let mut packing: Option<(Packing, recent::Group)> = None;
        for New { stored, encoded, ids } in self.new {
            if packing.as_ref().is_some_and(|(packing, _)| !packing.has_room(&encoded, &ids)) {
                written.record(packing.take(), &mut self.batch);
            }
            let first = stored.seq.0;
            let (packing, group) = packing.get_or_insert_with(|| {
                (Packing::new(first, self.now), recent::Group { first, events: Vec::new() })
            });
            packing.push(&encoded, &ids);
            group.events.push(stored.into());
        }
        written.record(packing, &mut self.batch);
        (self.batch, written)
    }
}

/// Too large for the store; no body within `max_body` becomes so long.
const TOO_LARGE: QueueError = QueueError::Full("an event of more than 8 MiB is not kept");

fn fits(arrival: &Arrival) -> bool {
    let names = 67 * (arrival.from.len() + 1);
    arrival.event.json().len() + names + 128 <= MAX_EVENT
}

impl Written {
    fn record(&mut self, packed: Option<(Packing, recent::Group)>, batch: &mut Batch) {
        let Some((packing, group)) = packed else { return };
        let (head, value) = packing.seal();
        let key = keys::event(head.first);
        let bytes = size(&key, &value);
        self.event_bytes += bytes;
        batch.put(key, value);
        self.heads.push((head, bytes));
        self.groups.push(group);
    }

    /// It is on disk.
    pub(crate) fn make_known(self, shared: &Shared, dedup_ids: usize) {
        let mut state = shared.state();
        (state.next, state.next_raw) = (self.next, self.next_raw);
        state.live_bytes += self.event_bytes;
        state.dedup_ids = u64::try_from(dedup_ids).unwrap_or(u64::MAX);
        let stored = !self.groups.is_empty();
        for group in self.groups {
            state.recent.push(group);
        }
        for apply in self.applies {
            apply.to(&mut state);
        }
        if stored {
            state.wake_all();
        }
        drop(state);
        for pending in self.answers {
            match pending {
                Pending::Appended(answer, results) => drop(answer.send(Ok(results))),
                Pending::Replayed(answer, events) => drop(answer.send(Ok(events))),
                Pending::Done(answer) => drop(answer.send(Ok(()))),
            }
        }
    }

    /// It may be on disk or not: nobody is told that it is. Receipts give their deliveries back.
    pub(crate) fn refuse(self, error: &QueueError) {
        for pending in self.answers {
            match pending {
                Pending::Appended(answer, _) => drop(answer.send(Err(error.clone()))),
                Pending::Replayed(answer, _) => drop(answer.send(Err(error.clone()))),
                Pending::Done(answer) => drop(answer.send(Err(error.clone()))),
            }
        }
    }
}
