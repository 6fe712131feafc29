//! One commit: what is written, what is true once it is durable, and who hears of it then.
//!
//! Owns how calls become changes of the store and of the state. It decides; the engine does.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    clock::Timestamp,
    event::Arrival,
    name::{HandlerName, HookName},
    queue::{
        Appended, Bookmark, DeadLetterId, Failure, QueueError, RawIdentity, RawPush, Seq,
        StoredEvent,
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
            state::{State, handler::HandlerState, recent::Group, retries::Retry},
        },
    },
    store::{
        Batch,
        chunked::{MAX_VALUE, size},
    },
};

/// Too large for the store; no body within `max_body` becomes so long.
const TOO_LARGE: QueueError = QueueError::Full("an event of more than 8 MiB is not kept");

/// Whom to tell how it ended.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, QueueError>>;
/// What is true once it is durable.
type Effect = Box<dyn FnOnce(&mut State)>;
/// Tells a caller how it ended.
type Tell = Box<dyn FnOnce(Result<(), QueueError>)>;

/// A commit being put together.
pub(crate) struct Commit {
    pub(super) batch: Batch,
    effects: Vec<Effect>,
    answers: Vec<Tell>,
    pub(super) now: Timestamp,
    steady: Duration,
    first: u64,
    next: u64,
    next_raw: u64,
    /// Of the undecodable pushes in it.
    raw: HashSet<RawIdentity>,
    /// The group that takes events in.
    packing: Option<(Packing, Vec<StoredEvent>)>,
    /// The groups before it, and their bytes on disk.
    heads: Vec<(Head, u64)>,
    /// Hooks that no id was made with before.
    hooks: BTreeSet<HookName>,
    /// Ids of the new events: a second arrival of one of them waits for the same sync.
    ids: HashSet<Id>,
    cursors: BTreeMap<HandlerName, Cursor>,
    /// Bytes of bodies, to know when it is large enough.
    pub(super) bytes: usize,
}

impl Commit {
    pub(super) fn new(shared: &Shared) -> Self {
        let state = shared.state();
        Self {
            batch: Batch::new(),
            effects: Vec::new(),
            answers: Vec::new(),
            now: shared.clock.now(),
            steady: shared.clock.steady(),
            first: state.next,
            next: state.next,
            next_raw: state.next_raw,
            raw: HashSet::new(),
            packing: None,
            heads: Vec::new(),
            hooks: BTreeSet::new(),
            ids: HashSet::new(),
            cursors: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// The number of calls that it answers.
    pub(super) fn calls(&self) -> usize {
        self.answers.len()
    }

    /// The number of events and of calls in it.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.next - self.first).unwrap_or(usize::MAX) + self.answers.len()
    }

    /// Once it is durable, this happens to the state.
    pub(super) fn then(&mut self, effect: impl FnOnce(&mut State) + 'static) {
        self.effects.push(Box::new(effect));
    }

    /// Once it is durable, the caller hears this; of a refusal at once.
    pub(super) fn answer<T: 'static>(&mut self, answer: Answer<T>, planned: Result<T, QueueError>) {
        match planned {
            Ok(value) => self.answers.push(Box::new(move |written| {
                drop(answer.send(written.map(|()| value)));
            })),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// All of the arrivals and the bookmark, or nothing.
    pub(crate) fn append(
        &mut self,
        dedup: &Dedup,
        arrivals: Vec<Arrival>,
        bookmark: Option<Bookmark>,
    ) -> Result<Vec<Appended>, QueueError> {
        if !arrivals.iter().all(fits) {
            return Err(TOO_LARGE);
        }
        if let Some(Bookmark { name, place }) = bookmark {
            self.batch.put(keys::bookmark(&name), place.encode());
        }
        Ok(arrivals.into_iter().map(|arrival| self.arrive(dedup, arrival)).collect())
    }

    fn arrive(&mut self, dedup: &Dedup, arrival: Arrival) -> Appended {
        let Arrival { event, origin, from, only_by_hook } = arrival;
        let known = |id: &Id| dedup.known.contains(id) || self.ids.contains(id);
        let id = |hook: Option<&HookName>| dedup.id(&origin, event.attributes(), hook);
        let (main, by_hook) = (id(None), only_by_hook.as_ref().map(|hook| id(Some(hook))));
        if known(by_hook.as_ref().unwrap_or(&main)) {
            return Appended::Duplicate;
        }
        let ids: Vec<Id> =
            [Some(main), by_hook].into_iter().flatten().filter(|id| !known(id)).collect();
        let new_hook = only_by_hook.clone().filter(|hook| !dedup.hooks.contains(hook));
        let (from, already) = match only_by_hook {
            Some(hook) if known(&main) => {
                let came_by = dedup.hooks.union(&self.hooks).filter(|name| known(&id(Some(*name))));
                let already: BTreeSet<_> = from.iter().chain(came_by).collect();
                let already = already.into_iter().filter(|name| **name != hook).cloned().collect();
                (vec![hook], already)
            }
            Some(_) | None => (from, Vec::new()),
        };
        self.hooks.extend(new_hook);
        let (seq, received) = (Seq(self.next), self.now);
        self.next += 1;
        self.pack(StoredEvent { seq, received, origin, from, already, event }, &ids);
        self.ids.extend(ids);
        Appended::Stored(seq)
    }

    fn pack(&mut self, stored: StoredEvent, ids: &[Id]) {
        let encoded = encode_event(&stored);
        self.bytes += encoded.len();
        if self.packing.as_ref().is_some_and(|(packing, _)| !packing.has_room(&encoded, ids)) {
            self.end_group();
        }
        let new = || (Packing::new(stored.seq.0, stored.received), Vec::new());
        let (packing, events) = self.packing.get_or_insert_with(new);
        packing.push(&encoded, ids);
        events.push(stored);
    }

    fn end_group(&mut self) {
        let Some((packing, events)) = self.packing.take() else { return };
        let (head, value) = packing.seal();
        let group = Group::new(head.first, events);
        let key = keys::event(head.first);
        let bytes = size(&key, &value);
        self.batch.put(key, value);
        self.heads.push((head, bytes));
        self.then(move |state| {
            state.log_bytes += bytes;
            state.recent.push(group);
        });
    }

    /// Undecodable pushes as they are to be written; the commit is as it was.
    pub(crate) fn undecodable(
        &self,
        pushes: Vec<(RawIdentity, RawPush, Failure)>,
    ) -> Result<Vec<(RawIdentity, Vec<u8>)>, QueueError> {
        let at = self.now;
        let encoded = pushes.into_iter().map(|(identity, push, failure)| {
            let value = Undecodable { at, failure, push }.encode();
            if value.len() > MAX_VALUE { Err(TOO_LARGE) } else { Ok((identity, value)) }
        });
        encoded.collect()
    }

    /// One letter for one identity: what is there, or in this commit, stays as it is.
    pub(crate) fn bury_raw(&mut self, shared: &Shared, identity: RawIdentity, value: Vec<u8>) {
        if self.raw.contains(&identity) || shared.state().dead.has_raw(&identity) {
            return;
        }
        let at = self.now;
        let number = self.next_raw;
        let id = DeadLetterId::Raw(number);
        self.next_raw += 1;
        self.raw.insert(identity);
        let bytes = self.put(keys::dead_key(&id), value);
        self.batch.put(keys::NEXT_RAW, self.next_raw.encode());
        self.then(move |state| {
            state.dead.insert(id, at, bytes);
            state.dead.identify(number, identity);
        });
    }

    /// A retry or a dead letter, with the step of the handler's cursor.
    pub(crate) fn settle(
        &mut self,
        shared: &Shared,
        receipt: Receipt,
        delay: Option<Duration>,
        failure: Failure,
    ) {
        let Receipt { lease, stored, attempt: attempts, since } = receipt;
        let (at, seq, handler) = (self.now, stored.seq, lease.handler.clone());
        if let Some(of) = shared.state().handlers.get(&handler) {
            match of.retries.due(seq.0) {
                Some(due) => self.batch.remove(keys::retry(due, &handler, seq.0)),
                None => self.cursor(&handler, of).window.settle(seq.0),
            }
        }
        let stored = StoredEvent::clone(&stored);
        let tried = Tried { at, attempts, since, failure, stored };
        if let Some(delay) = delay {
            let retry = self.retry(&handler, &tried, delay);
            self.then(move |state| {
                lease.end(state);
                state.retries(&handler, seq.0, retry);
            });
        } else {
            // A replayed event may have been buried before: there is one letter of it.
            let id = DeadLetterId::Delivery(handler, seq);
            let bytes = self.put(keys::dead_key(&id), tried.encode(DEAD));
            self.then(move |state| {
                lease.end(state);
                state.dead.insert(id, at, bytes);
            });
        }
    }

    /// Writes a retry that is due after this delay.
    pub(super) fn retry(&mut self, handler: &HandlerName, tried: &Tried, delay: Duration) -> Retry {
        let due = self.now.after(delay).as_millis();
        let key = keys::retry(due, handler, tried.stored.seq.0);
        let bytes = self.put(key, tried.encode(RETRY));
        Retry { due, ready: self.steady.saturating_add(delay), bytes }
    }

    /// Sets an entry; the bytes that it takes.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> u64 {
        let bytes = size(&key, &value);
        self.bytes += value.len();
        self.batch.put(key, value);
        bytes
    }

    /// Dead letters go.
    pub(super) fn remove_dead(&mut self, ids: Vec<DeadLetterId>) {
        for id in &ids {
            self.batch.remove(keys::dead_key(id));
        }
        self.then(move |state| ids.iter().for_each(|id| state.dead.remove(id)));
    }

    /// The handler's cursor, which this commit writes. Retries that succeeded go with it: they must
    /// not be found on disk beside another delivery of their events.
    pub(super) fn cursor(&mut self, name: &HandlerName, of: &HandlerState) -> &mut Cursor {
        if !self.cursors.contains_key(name) {
            let (unwritten, succeeded) = (of.unwritten, of.succeeded.clone());
            for (seq, due) in &succeeded {
                self.batch.remove(keys::retry(*due, name, *seq));
            }
            let name = name.clone();
            self.then(move |state| {
                if let Some(of) = state.handlers.get_mut(&name) {
                    of.written(unwritten, &succeeded);
                }
            });
        }
        self.cursors.entry(name.clone()).or_insert_with(|| of.cursor())
    }

    /// All that is to be written.
    pub(super) fn seal(&mut self, dedup: &Dedup) -> Batch {
        self.end_group();
        if !self.hooks.is_empty() {
            self.batch.put(keys::HOOKS, (&dedup.hooks | &self.hooks).encode());
        }
        for (handler, cursor) in &self.cursors {
            self.batch.put(keys::cursor(handler), cursor.encode());
        }
        std::mem::take(&mut self.batch)
    }

    /// It is on disk.
    pub(super) fn make_known(self, shared: &Shared, dedup: &mut Dedup) {
        for (head, bytes) in self.heads {
            dedup.remember(head, bytes);
        }
        dedup.hooks.extend(self.hooks);
        // Declared before the lock: if an effect panics, receipts are dropped after it is free.
        let effects = self.effects.into_iter();
        let mut state = shared.state();
        (state.next, state.next_raw) = (self.next, self.next_raw);
        for effect in effects {
            effect(&mut state);
        }
        if self.next > self.first {
            state.wake_all();
        }
        drop(state);
        for tell in self.answers {
            tell(Ok(()));
        }
    }

    /// It may be on disk or not: nobody is told that it is. Receipts give their deliveries back.
    pub(super) fn refuse(self, error: &QueueError) {
        for tell in self.answers {
            tell(Err(error.clone()));
        }
    }
}

fn fits(arrival: &Arrival) -> bool {
    let names = 67 * (arrival.from.len() + 1);
    arrival.event.json().len() + names + 128 <= MAX_EVENT
}
