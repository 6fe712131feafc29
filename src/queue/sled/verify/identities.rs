//! Packed ids: whether they are those of the events, and what a repair makes of them.

use std::collections::HashSet;

use super::{carry::Carrier, check::Found};
use crate::queue::sled::{
    OpenError,
    database::Db,
    keys,
    packing::Note,
    record::{Head, Id},
    wire::Malformed,
};

/// What is known of the packed ids while log and ids are read, both from the oldest.
#[derive(Debug, Default)]
pub(super) struct Packed {
    note: Option<Note>,
    /// Ids of events below are packed.
    until: u64,
    /// A record begins or ends there, as it should.
    border: bool,
    /// Of the records below.
    bytes: u64,
    /// The ids that stand together with those of the record that was read last.
    beside: Option<(Head, HashSet<Id>)>,
    /// Records of ids without a hole: first number, and the one after the last.
    run: Option<(u64, u64)>,
}

impl Found {
    /// What is noted of them.
    pub(super) fn packing(&mut self, db: &Db) -> sled::Result<()> {
        let note = match db.get(keys::LOG)?.map(|value| Note::decode(&value)).transpose() {
            Ok(note) => note,
            Err(error) => {
                self.fault(format!("m|log: {error}"));
                return self.packing_unnoted(db);
            }
        };
        let Some(note) = note else { return self.packing_unnoted(db) };
        self.packed = Packed { note: Some(note), until: note.until, ..Packed::default() };
        Ok(())
    }

    /// The first stores had no note: then only ids of events that have left the log are packed.
    fn packing_unnoted(&mut self, db: &Db) -> sled::Result<()> {
        let last = db.range(keys::all(keys::IDS)).next_back().transpose()?;
        let end = last.and_then(|(_, value)| Head::decode_ids(&value).ok()).map(|head| head.end());
        let oldest = self.noted_oldest.unwrap_or(1);
        self.packed.until = end.unwrap_or(0).max(oldest);
        if self.packed.until > oldest && db.get(keys::LOG)?.is_none() {
            self.fault("m|log is missing, though ids of events in the log are packed".to_owned());
        }
        Ok(())
    }

    /// A whole record of the log, of so many bytes.
    pub(super) fn packed_with(&mut self, db: &Db, head: &Head, bytes: u64) -> sled::Result<()> {
        let packed = &mut self.packed;
        packed.border |= head.first == packed.until || head.end() == packed.until;
        if head.first >= packed.until {
            self.holds.dedup_ids += u64::try_from(head.ids.len()).unwrap_or(u64::MAX);
            return Ok(());
        }
        packed.bytes += bytes;
        if packed.beside.as_ref().is_none_or(|(beside, _)| beside.end() <= head.first) {
            let entry = db.range(keys::ids(0)..=keys::ids(head.first)).next_back().transpose()?;
            let beside = entry.and_then(|(_, value)| Head::decode_ids(&value).ok());
            packed.beside = beside.map(|beside| {
                let ids = beside.ids.iter().copied().collect();
                (beside, ids)
            });
        }
        // What is in no record of ids at all is told once, for all of the hole.
        if let Some((beside, ids)) = &packed.beside
            && beside.end() > head.first
            && !head.ids.iter().all(|id| ids.contains(id))
        {
            let name = keys::name(&keys::ids(beside.first));
            self.fault(format!("{name}: those of event {} are not among them", head.first));
        }
        Ok(())
    }

    /// A record of ids.
    pub(super) fn ids(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let head = Head::decode_ids(value)?.checked(key)?;
        if head.end() > self.packed.until {
            let (name, until) = (keys::name(key), self.packed.until);
            self.fault(format!("{name}: they go on beyond {until}, up to where m|log has them"));
        }
        self.packed.run = match self.packed.run {
            Some((first, end)) if end == head.first => Some((first, head.end())),
            _ => Some((head.first, head.end())),
        };
        self.noted_next = self.noted_next.max(head.end());
        self.holds.dedup_ids += u64::try_from(head.ids.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// What is noted against all that was read.
    pub(super) fn reckon_packing(&mut self) {
        let Some(Note { until, bytes, from }) = self.packed.note else { return };
        let any = self.holds.oldest < self.holds.next;
        if until > self.holds.next || until < self.first() || (any && !self.packed.border) {
            self.fault(format!("m|log: ids are packed up to {until}, where no record begins"));
        } else if self.holes.is_empty() && bytes != self.packed.bytes {
            let found = self.packed.bytes;
            self.fault(format!("m|log: {bytes} bytes of events up to {until}; there are {found}"));
        }
        let (first, end) = self.packed.run.unwrap_or((until, until));
        let missing = if end < until { (end.max(from), until) } else { (from, first) };
        if missing.0 < missing.1.min(until) {
            let last = missing.1 - 1;
            self.fault(format!("the ids of the events {} to {last} are missing", missing.0));
        }
    }
}

impl Carrier<'_> {
    /// Those that are whole. If the key that they were made with is lost, they are of no use.
    pub(super) fn ids_of_database(&mut self, old: &Db, found: &Found) -> Result<(), OpenError> {
        if self.new_ids.is_some() {
            return Ok(());
        }
        for (index, entry) in old.range(keys::all(keys::IDS)).enumerate() {
            let (key, value) = entry?;
            if index % 8 == 7 {
                old.pump(&key)?;
            }
            match Head::decode_ids(&value) {
                Ok(head) if !found.bad.contains(&*key) => self.packed(head)?,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Ids whose events are not in the new log, once that is complete: those of the others stand
    /// with their events, and `m|log` is left out, which says so. The next start packs them.
    pub(super) fn packed(&mut self, mut head: Head) -> Result<(), OpenError> {
        let oldest = self.oldest.unwrap_or(u64::MAX);
        if head.first >= oldest {
            return Ok(());
        }
        if head.end() > oldest {
            self.commit()?;
            let mut there = HashSet::new();
            for entry in self.db.range(keys::event(oldest)..keys::event(head.end())) {
                let (key, value) = entry?;
                let record = Head::of(&key, &value);
                there.extend(record.map_err(|e| OpenError::damaged("a new record", e))?.ids);
            }
            head.ids.retain(|id| !there.contains(id));
            head.count = u32::try_from(oldest - head.first).unwrap_or(u32::MAX);
        }
        self.put(keys::ids(head.first), head.encode_ids())
    }
}
