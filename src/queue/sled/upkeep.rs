//! What the writer does between groups: it writes down settled deliveries, deletes what every
//! handler is past, lets ids leave the window, and holds the dead letters to their bounds.

use std::{collections::VecDeque, time::Duration};

use super::{
    entry::encode_number,
    ids::{Bounds, Packed, pack},
    keys,
    long::size,
    record::Head,
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
    /// The records of ids as they are then, if there are other ones.
    packed: Option<VecDeque<Packed>>,
}

impl Writer {
    /// Ids that are too old or too many leave the window, oldest first.
    pub(super) fn expire(&mut self) -> Result<(), Broken> {
        let mut entries = Entries::new();
        for _ in 0..RECORDS {
            let Some(head) = self.oldest_ids()? else { break };
            let options = &self.shared.options;
            let ends_before = self.shared.clock.now().before(options.dedup_window);
            if !self.dedup.is_over(&head, ends_before, options.dedup_max) {
                self.dedup.oldest = Some(head);
                break;
            }
            entries.push((keys::ids(head.first), None));
            self.dedup.forget(&head);
        }
        self.more |= entries.len() == RECORDS;
        let ids = u64::try_from(self.dedup.known.len()).unwrap_or(u64::MAX);
        self.shared.state().dedup_ids = ids;
        self.commit(entries)
    }

    fn oldest_ids(&mut self) -> Result<Option<Head>, Broken> {
        if self.dedup.known.is_empty() {
            return Ok(None);
        }
        if let Some(head) = self.dedup.oldest.take() {
            return Ok(Some(head));
        }
        let db = self.db()?;
        let damaged = |error: super::wire::Malformed| Broken(error.to_string());
        let from = keys::ids(self.dedup.low);
        if let Some(entry) = db.range(from..keys::all(keys::IDS).end).next() {
            return Head::decode_ids(&entry?.1).map(Some).map_err(damaged);
        }
        let from = keys::event(self.dedup.low);
        match db.range(from..keys::all(keys::EVENTS).end).next() {
            Some(entry) => Head::decode(&entry?.1).map(Some).map_err(damaged),
            None => Ok(None),
        }
    }

    /// Writes down what is settled, and deletes what is of no more use.
    pub(super) fn tidy(&mut self) -> Result<(), Broken> {
        let mut entries = Entries::new();
        let settled = self.places(&mut entries);
        let mut deleted = self.passed(&mut entries)?;
        let dead = self.surplus(&mut entries);
        self.commit(entries)?;
        if let Some(packed) = deleted.packed.take() {
            (self.dedup.packed, self.dedup.oldest) = (packed, None);
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

    /// Records that all handlers are past, and that need not be kept for their age.
    fn passed(&self, entries: &mut Entries) -> Result<Deleted, Broken> {
        let (oldest, settled, next) = {
            let state = self.shared.state();
            (state.oldest, state.settled_by_all(), state.next)
        };
        let (mut deleted, mut groups) = (Deleted::default(), Vec::new());
        if oldest >= settled {
            return Ok(deleted);
        }
        let stored_before = self.shared.clock.now().before(self.shared.options.retain);
        for entry in self.db()?.range(keys::event(oldest)..keys::event(settled)).take(RECORDS) {
            let (key, value) = entry?;
            let head = Head::decode(&value).map_err(|e| Broken(e.to_string()))?;
            if head.end() > settled || head.received > stored_before {
                break;
            }
            deleted.end = head.end();
            deleted.bytes += size(&key, &value);
            deleted.count += 1;
            if head.first >= self.dedup.low && !head.ids.is_empty() {
                groups.push(head);
            }
            entries.push((key.to_vec(), None));
        }
        if !groups.is_empty() {
            let options = &self.shared.options;
            let bounds = Bounds::of_window(options.dedup_window, options.dedup_max);
            let there = self.dedup.packed.clone();
            deleted.packed = Some(pack(self.db()?, there, groups, bounds, entries)?);
        }
        if deleted.count > 0 {
            entries.push((keys::NEXT.to_vec(), Some(encode_number(next))));
            entries.push((keys::OLDEST.to_vec(), Some(encode_number(deleted.end))));
        }
        Ok(deleted)
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
