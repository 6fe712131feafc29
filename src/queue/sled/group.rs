//! One commit: what was asked for, what is written for it, and what is true once it is synced.
//!
//! Owns the translation of calls into entries. It decides; [`super::writer`] does.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    dedup::Dedup,
    effect::Effect,
    entry::{Cursor, Tried, Undecodable, encode_hooks, encode_number, encode_place},
    keys,
    long::{MAX_VALUE, size},
    op::Answer,
    reader::{Receipt, Shared},
    record::{Head, Id, MAX_EVENT, Packing, encode_event},
    tail,
    wire::Kind,
    writer::Entries,
};
use crate::{
    clock::Timestamp,
    event::Arrival,
    name::{HandlerName, HookName},
    queue::{Appended, Bookmark, Failure, QueueError, RawPush, Seq, StoredEvent, Verdict},
};

/// An answer that waits for the sync.
#[derive(Debug)]
pub(super) enum Pending {
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
pub(super) struct Group {
    pub(super) now: Timestamp,
    next: u64,
    next_raw: u64,
    new: Vec<New>,
    /// Hooks that no id was made with before.
    hooks: BTreeSet<HookName>,
    /// Ids of `new`: a second arrival of one of them waits for the same sync.
    ids: HashSet<Id>,
    cursors: BTreeMap<HandlerName, Cursor>,
    pub(super) effects: Vec<Effect>,
    pub(super) answers: Vec<Pending>,
    pub(super) entries: Entries,
    /// Bytes of bodies, to know when it is large enough.
    pub(super) bytes: usize,
}

/// What was written, to be made known after the sync.
#[derive(Debug)]
pub(super) struct Written {
    /// With their sizes on disk.
    pub(super) heads: Vec<(Head, u64)>,
    pub(super) hooks: BTreeSet<HookName>,
    groups: Vec<tail::Group>,
    event_bytes: u64,
    next: u64,
    next_raw: u64,
    effects: Vec<Effect>,
    answers: Vec<Pending>,
}

impl Group {
    pub(super) fn new(shared: &Shared) -> Self {
        let state = shared.state();
        Self {
            now: shared.clock.now(),
            next: state.next,
            next_raw: state.next_raw,
            new: Vec::new(),
            hooks: BTreeSet::new(),
            ids: HashSet::new(),
            cursors: BTreeMap::new(),
            effects: Vec::new(),
            answers: Vec::new(),
            entries: Entries::new(),
            bytes: 0,
        }
    }

    /// So many events and other entries are in it.
    pub(super) fn len(&self) -> usize {
        self.new.len() + self.effects.len() + self.answers.len()
    }

    /// All of the arrivals and the bookmark, or nothing.
    pub(super) fn append(
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
        let entry = |b: Bookmark| (keys::bookmark(&b.name), Some(encode_place(&b.place)));
        self.entries.extend(bookmark.map(entry));
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

    pub(super) fn bury_raw(&mut self, push: RawPush, failure: Failure, answer: Answer<()>) {
        let value = Undecodable { at: self.now, failure, push }.encode();
        if value.len() > MAX_VALUE {
            drop(answer.send(Err(TOO_LARGE)));
            return;
        }
        let (number, key) = (self.next_raw, keys::raw(self.next_raw));
        self.next_raw += 1;
        self.bytes += value.len();
        let bytes = size(&key, &value);
        self.entries.push((key, Some(value)));
        self.entries.push((keys::NEXT_RAW.to_vec(), Some(encode_number(self.next_raw))));
        self.effects.push(Effect::RawBuried { number, at: self.now, bytes });
        self.answers.push(Pending::Done(answer));
    }

    /// A retry or a dead letter, with the step of the handler's place.
    pub(super) fn settle(
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
        match receipt.lease.due {
            Some(due) => self.entries.push((keys::retry(due, handler, seq), None)),
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
            Some(due) => (keys::retry(due, handler, seq), tried.encode(Kind::Retry)),
            None => (keys::dead(handler, seq), tried.encode(Kind::Dead)),
        };
        let bytes = size(&key, &value);
        self.bytes += value.len();
        self.entries.push((key, Some(value)));
        self.effects.push(match due {
            Some(due) => Effect::Retried { receipt, due, bytes },
            None => Effect::Buried { receipt, at, bytes },
        });
        self.answers.push(Pending::Done(answer));
    }

    fn step(&mut self, shared: &Shared, handler: &HandlerName, seq: u64) {
        if !self.cursors.contains_key(handler)
            && let Some(place) = shared.state().places.get(handler)
        {
            self.cursors.insert(handler.clone(), place.cursor());
        }
        if let Some(cursor) = self.cursors.get_mut(handler) {
            cursor.window.settle(seq);
        }
    }

    /// The entries to write, and what to make known after the sync.
    pub(super) fn seal(mut self, dedup: &Dedup) -> (Entries, Written) {
        if !self.hooks.is_empty() {
            let hooks = encode_hooks(dedup.hooks.union(&self.hooks));
            self.entries.push((keys::HOOKS.to_vec(), Some(hooks)));
        }
        let mut written = Written {
            heads: Vec::new(),
            hooks: self.hooks,
            groups: Vec::new(),
            event_bytes: 0,
            next: self.next,
            next_raw: self.next_raw,
            effects: self.effects,
            answers: self.answers,
        };
        for (handler, cursor) in self.cursors {
            self.entries.push((keys::cursor(&handler), Some(cursor.encode())));
        }
        let mut packing: Option<(Packing, tail::Group)> = None;
        for New { stored, encoded, ids } in self.new {
            if packing.as_ref().is_some_and(|(packing, _)| !packing.has_room(&encoded, &ids)) {
                written.record(packing.take(), &mut self.entries);
            }
            let first = stored.seq.0;
            let (packing, group) = packing.get_or_insert_with(|| {
                (Packing::new(first, self.now), tail::Group { first, events: Vec::new() })
            });
            packing.push(&encoded, &ids);
            group.events.push(stored.into());
        }
        written.record(packing, &mut self.entries);
        (self.entries, written)
    }
}

/// Too large for the store; no body within `max_body` becomes so long.
const TOO_LARGE: QueueError = QueueError::Full("an event of more than 8 MiB is not kept");

fn fits(arrival: &Arrival) -> bool {
    let names = 67 * (arrival.from.len() + 1);
    arrival.event.json().len() + names + 128 <= MAX_EVENT
}

impl Written {
    fn record(&mut self, packed: Option<(Packing, tail::Group)>, entries: &mut Entries) {
        let Some((packing, group)) = packed else { return };
        let (head, value) = packing.seal();
        let key = keys::event(head.first);
        let bytes = size(&key, &value);
        self.event_bytes += bytes;
        entries.push((key, Some(value)));
        self.heads.push((head, bytes));
        self.groups.push(group);
    }

    /// It is on disk.
    pub(super) fn make_known(self, shared: &Shared, dedup_ids: usize) {
        let mut state = shared.state();
        (state.next, state.next_raw) = (self.next, self.next_raw);
        state.live_bytes += self.event_bytes;
        state.dedup_ids = u64::try_from(dedup_ids).unwrap_or(u64::MAX);
        let stored = !self.groups.is_empty();
        for group in self.groups {
            state.tail.push(group);
        }
        for effect in self.effects {
            effect.make_known(&mut state);
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
    pub(super) fn refuse(self, error: &QueueError) {
        for pending in self.answers {
            match pending {
                Pending::Appended(answer, _) => drop(answer.send(Err(error.clone()))),
                Pending::Replayed(answer, _) => drop(answer.send(Err(error.clone()))),
                Pending::Done(answer) => drop(answer.send(Err(error.clone()))),
            }
        }
    }
}
