//! What the writer does between groups: it writes down settled deliveries, deletes what every
//! handler is past, packs ids, lets them leave the window, and holds the dead letters to their
//! bounds.

use std::{collections::VecDeque, time::Duration};

use super::{
    entry::encode_number,
    ids::{Bounds, Packed, pack},
    keys,
    long::size,
    packing::Note,
    record::{Head, MISSING},
    writer::{Broken, Entries, Writer},
};
use crate::{name::HandlerName, queue::DeadLetterId};

/// Records in one commit.
const RECORDS: usize = 1024;
/// A place is written down this often even if nothing happens, to know when it was last used.
const SEEN: Duration = Duration::from_secs(24 * 3600);

/// Settled deliveries as they are being written down.
struct Settled {
    handler: HandlerName,
    unwritten: usize,
    succeeded: Vec<(u64, u64)>,
}

/// Records that go.
#[derive(Default)]
struct Deleted {
    end: u64,
    bytes: u64,
    count: usize,
}

/// Ids that are written down.
struct Repacked {
    /// Of so many groups.
    count: usize,
    note: Note,
    /// The records of ids as they are then, if there are other ones.
    packed: Option<VecDeque<Packed>>,
}

impl Writer {
    /// Ids that are too old or too many leave the window, oldest first.
    pub(super) fn expire(&mut self) -> Result<(), Broken> {
        let mut entries = Entries::new();
        let mut left = 0;
        for _ in 0..RECORDS {
            let Some(head) = self.oldest_ids()? else { break };
            let options = &self.shared.options;
            let ends_before = self.shared.clock.now().before(options.dedup_window);
            if !self.dedup.is_over(&head, ends_before, options.dedup_max) {
                self.dedup.oldest = Some(head);
                break;
            }
            left += 1;
            if head.first < self.dedup.unpacked.note.until {
                entries.push((keys::ids(head.first), None));
            }
            self.dedup.forget(&head);
        }
        self.more |= left == RECORDS;
        let ids = u64::try_from(self.dedup.known.len()).unwrap_or(u64::MAX);
        self.shared.state().dedup_ids = ids;
        if !entries.is_empty() {
            let note = self.dedup.noted(self.dedup.unpacked.note);
            entries.push((keys::LOG.to_vec(), Some(note.encode())));
        }
        self.commit(entries)
    }

    fn oldest_ids(&mut self) -> Result<Option<Head>, Broken> {
        if self.dedup.known.is_empty() {
            return Ok(None);
        }
        if let Some(head) = self.dedup.oldest.take() {
            return Ok(Some(head));
        }
        let from = keys::ids(self.dedup.low);
        match self.db()?.range(from..keys::all(keys::IDS).end).next() {
            Some(entry) => {
                let head = Head::decode_ids(&entry?.1);
                head.map(Some).map_err(|error| Broken(error.to_string()))
            }
            None => Ok(self.dedup.unpacked.first_from(self.dedup.low).cloned()),
        }
    }

    /// Writes down what is settled, and deletes what is of no more use.
    pub(super) fn tidy(&mut self) -> Result<(), Broken> {
        let mut entries = Entries::new();
        let settled = self.places(&mut entries);
        let deleted = self.passed(&mut entries)?;
        let repacked = self.pack(&deleted, &mut entries)?;
        let dead = self.surplus(&mut entries);
        self.commit(entries)?;
        if let Some(Repacked { count, note, packed }) = repacked {
            if let Some(packed) = packed {
                (self.dedup.packed, self.dedup.oldest) = (packed, None);
            }
            self.dedup.unpacked.packed(count, note);
            self.more |= self.dedup.unpacked.is_due(self.bounds());
        }
        let mut state = self.shared.state();
        for Settled { handler, unwritten, succeeded } in settled {
            let Some(place) = state.places.get_mut(&handler) else { continue };
            place.unwritten = place.unwritten.saturating_sub(unwritten);
            place.deleted(&succeeded);
        }
        state.oldest = state.oldest.max(deleted.end);
        state.live_bytes = state.live_bytes.saturating_sub(deleted.bytes);
        self.more |= deleted.count == RECORDS || dead.len() == RECORDS;
        self.shared.metrics.dead_letters_dropped.inc_by(u64::try_from(dead.len()).unwrap_or(0));
        for id in dead {
            state.unbury(&id);
        }
        drop(state);
        Ok(())
    }

    fn places(&self, entries: &mut Entries) -> Vec<Settled> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let mut settled = Vec::new();
        for (handler, place) in &mut state.places {
            if place.configured && now.since(place.seen) > SEEN {
                (place.seen, place.unwritten) = (now, place.unwritten + 1);
            }
            if place.unwritten == 0 {
                continue;
            }
            let succeeded: Vec<_> = place.succeeded.iter().map(|(s, d)| (*s, *d)).collect();
            for (seq, due) in &succeeded {
                entries.push((keys::retry(*due, handler, *seq), None));
            }
            entries.push((keys::cursor(handler), Some(place.cursor().encode())));
            let (handler, unwritten) = (handler.clone(), place.unwritten);
            settled.push(Settled { handler, unwritten, succeeded });
        }
        settled
    }

    /// Records that all handlers are past, and that need not be kept for their age. It ends before
    /// one that is damaged, or not where it should be: what is missing must be seen, not passed by.
    fn passed(&self, entries: &mut Entries) -> Result<Deleted, Broken> {
        let (oldest, settled, next) = {
            let state = self.shared.state();
            (state.oldest, state.settled_by_all(), state.next)
        };
        let mut deleted = Deleted { end: oldest, ..Deleted::default() };
        if oldest >= settled {
            return Ok(deleted);
        }
        let stored_before = self.shared.clock.now().before(self.shared.options.retain);
        let (db, mut gone) = (self.db()?, Entries::new());
        while deleted.end < settled && deleted.count < RECORDS {
            let key = keys::event(deleted.end);
            let value = db.get(&key)?;
            let head = value.as_ref().map_or(Err(MISSING), |value| Head::of(&key, value));
            let (head, value) = match (head, value) {
                (Ok(head), Some(value)) => (head, value),
                (head, _) => {
                    self.shared.damaged(&key, head.err().unwrap_or(MISSING));
                    break;
                }
            };
            if head.end() > settled || head.received > stored_before {
                break;
            }
            deleted.end = head.end();
            deleted.bytes += size(&key, &value);
            deleted.count += 1;
            gone.push((key, None));
        }
        if deleted.count > 0 {
            // Before the records: whoever finds one gone finds that it was to go.
            entries.push((keys::NEXT.to_vec(), Some(encode_number(next))));
            entries.push((keys::OLDEST.to_vec(), Some(encode_number(deleted.end))));
            entries.append(&mut gone);
        }
        Ok(deleted)
    }

    /// Small parts of the window, as which ids are packed.
    pub(super) fn bounds(&self) -> Bounds {
        let options = &self.shared.options;
        Bounds::of_window(options.dedup_window, options.dedup_max)
    }

    /// Ids of records that are deleted, and of those that have become enough for a record of ids.
    fn pack(&self, deleted: &Deleted, entries: &mut Entries) -> Result<Option<Repacked>, Broken> {
        let (unpacked, bounds) = (&self.dedup.unpacked, self.bounds());
        let count = unpacked.before(deleted.end).max(unpacked.full(bounds));
        if count == 0 && deleted.count == 0 {
            return Ok(None);
        }
        let groups = unpacked.heads(count, self.dedup.low);
        let packed = if groups.is_empty() {
            None
        } else {
            let there = self.dedup.packed.clone();
            Some(pack(self.db()?, there, groups, bounds, entries)?)
        };
        let note = self.dedup.noted(unpacked.after(count, deleted.end, deleted.bytes));
        entries.push((keys::LOG.to_vec(), Some(note.encode())));
        Ok(Some(Repacked { count, note, packed }))
    }

    /// Dead letters beyond their bounds, oldest first.
    fn surplus(&self, entries: &mut Entries) -> Vec<DeadLetterId> {
        let bounds = self.shared.options.dead_letters;
        let too_old = self.shared.clock.now().before(bounds.age);
        let state = self.shared.state();
        let (mut count, mut bytes) = (state.dead.by_id.len(), state.dead.bytes);
        let mut surplus = Vec::new();
        for (at, id) in state.dead.by_age.iter().take(RECORDS) {
            if count <= bounds.max && bytes <= bounds.bytes && *at >= too_old {
                break;
            }
            count -= 1;
            bytes -= state.dead.by_id.get(id).map_or(0, |(_, bytes)| *bytes);
            entries.push((keys::dead_key(id), None));
            surplus.push(id.clone());
        }
        if !surplus.is_empty() {
            tracing::error!(
                dead_letters = surplus.len(),
                "dropped the oldest dead letters: they were too many, too large or too old"
            );
        }
        surplus
    }
}
