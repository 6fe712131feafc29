//! Reads every entry of a database that sled can open, and judges each and all together.

use std::collections::{BTreeMap, BTreeSet};

use sled::Tree;

use super::{HandlerPlace, Holds, Report, identities::Packed, telling::numbers};
use crate::{
    name::HandlerName,
    queue::{
        Seq, StoredEvent,
        sled::{
            OpenError,
            database::Db,
            dedup::Dedup,
            entry::{
                Cursor, Identity, Tried, Undecodable, decode_hooks, decode_number, decode_place,
            },
            keys, long,
            reader::ReadError,
            record::{Head, Id, decode_group},
            wire::{Kind, Malformed, Stub},
        },
    },
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) identity: Option<Identity>,
    pub(super) holds: Holds,
    pub(super) cursors: BTreeMap<HandlerName, Cursor>,
    /// Entries that are not whole, by key: they are not to be carried over.
    pub(super) bad: BTreeSet<Vec<u8>>,
    /// Numbers that are in no record: first, and the one after the last.
    pub(super) holes: Vec<(u64, u64)>,
    pub(super) next_raw: u64,
    /// The count that the high-water file has as well, or less of.
    pub(super) count: u64,
    /// Numbers whose events a former repair could not find.
    lost: Vec<(u64, u64)>,
    pub(super) faults: Report,
    /// The number after the last event so far.
    end: Option<u64>,
    pub(super) noted_next: u64,
    pub(super) packed: Packed,
    pub(super) noted_oldest: Option<u64>,
    dedup: Option<Dedup>,
    largest_entry: usize,
}

/// Reads all of it; no entry may be larger than this.
pub(super) fn check(db: &Db, largest_entry: usize) -> Result<Found, OpenError> {
    let mut found = Found { largest_entry, ..Found::default() };
    (found.next_raw, found.noted_next) = (1, 1);
    found.own(db)?;
    found.packing(db)?;
    for prefix in [keys::CURSORS, keys::EVENTS, keys::IDS] {
        found.all(db, prefix)?;
    }
    found.reckon();
    found.reckon_packing();
    for prefix in [keys::RETRIES, keys::DEAD, keys::RAW, keys::PARTS] {
        found.all(db, prefix)?;
    }
    found.strangers(db)?;
    Ok(found)
}

impl Found {
    pub(super) fn fault(&mut self, fault: String) {
        self.faults.fault(fault);
    }

    /// What the store notes of itself.
    fn own(&mut self, db: &Db) -> sled::Result<()> {
        match db.get(keys::STORE)?.map(|value| Identity::decode(&value)) {
            Some(Ok(identity)) => {
                self.dedup = Some(Dedup::new(&identity.key));
                self.identity = Some(identity);
            }
            Some(Err(error)) => self.fault(format!("the store's identity: {error}")),
            None if db.is_empty() => self.fault("the database is empty".to_owned()),
            None => self.fault("the store's identity is missing".to_owned()),
        }
        for key in [keys::NEXT, keys::OLDEST, keys::NEXT_RAW, keys::STARTED, keys::JOURNAL] {
            let Some(value) = db.get(key)? else { continue };
            match decode_number(&value) {
                Ok(number) if key == keys::NEXT => self.noted_next = number,
                Ok(number) if key == keys::OLDEST => self.noted_oldest = Some(number),
                Ok(number) if key == keys::NEXT_RAW => self.next_raw = number,
                Ok(number) if key == keys::STARTED => self.count = number,
                Ok(_) => {}
                Err(error) => self.fault(format!("{}: {error}", key.escape_ascii())),
            }
        }
        Ok(())
    }

    fn all(&mut self, db: &Db, prefix: u8) -> Result<(), OpenError> {
        for (index, entry) in db.range(keys::all(prefix)).enumerate() {
            let (key, value) = entry?;
            if index % 8 == 7 {
                db.pump(&key)?;
            }
            let judged = match long::whole(db, &key, &value) {
                Ok(whole) => self.judge(db, &key, &value, &whole.unwrap_or_default()),
                Err(ReadError::Sled(error)) => return Err(error.into()),
                Err(ReadError::Damaged(error) | ReadError::Entry(_, error)) => Ok(Err(error)),
            };
            match judged? {
                Err(Malformed::VERSION) => {
                    return Err(OpenError::damaged(&keys::name(&key), Malformed::VERSION));
                }
                Err(error) => {
                    self.fault(format!("{}: {error}", keys::name(&key)));
                    self.bad.insert(key.to_vec());
                }
                Ok(()) if value.len() > self.largest_entry => {
                    self.fault(format!("{} is too large for one entry", keys::name(&key)));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        db: &Db,
        key: &[u8],
        value: &[u8],
        whole: &[u8],
    ) -> sled::Result<Result<(), Malformed>> {
        Ok(match key.first().copied() {
            Some(keys::CURSORS) => self.place(key, whole),
            Some(keys::EVENTS) => return self.record(db, key, value, whole),
            Some(keys::IDS) => self.ids(key, whole),
            Some(keys::RETRIES) => self.retry(key, whole),
            Some(keys::DEAD) => self.dead(key, whole),
            Some(keys::RAW) => self.raw(key, whole),
            Some(keys::PARTS) => return part(db, key),
            _ => Ok(()),
        })
    }

    fn place(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let handler = keys::handler_of(key).ok_or(Malformed("its key"))?;
        self.cursors.insert(handler, Cursor::decode(value)?);
        Ok(())
    }

    fn record(
        &mut self,
        db: &Db,
        key: &[u8],
        value: &[u8],
        whole: &[u8],
    ) -> sled::Result<Result<(), Malformed>> {
        let judged = self.log(key, value, whole);
        if let Ok(head) = &judged {
            self.packed_with(db, head, long::size(key, value))?;
        }
        Ok(judged.map(drop))
    }

    fn log(&mut self, key: &[u8], value: &[u8], whole: &[u8]) -> Result<Head, Malformed> {
        let (head, events) = decode_group(whole)?;
        let head = head.checked(key)?;
        if self.end.is_some_and(|end| end > head.first) {
            return Err(Malformed("its events are in the record before it, too"));
        }
        self.identities(&head, &events)?;
        let begin = self.end.unwrap_or(head.first);
        if begin < head.first {
            self.holes.push((begin, head.first));
        }
        if self.end.is_none() {
            self.holds.oldest = head.first;
        }
        self.end = Some(head.end());
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        self.holds.events += count;
        if events.is_empty() {
            self.lost.push((head.first, head.end()));
        }
        self.holds.lost_before += u64::from(head.count).saturating_sub(count);
        self.holds.large_events += u64::from(Stub::of(value).is_some());
        Ok(head)
    }

    /// Every event brought an id, and every id was brought by an event.
    fn identities(&self, head: &Head, events: &[StoredEvent]) -> Result<(), Malformed> {
        let Some(dedup) = &self.dedup else { return Ok(()) };
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

    /// Numbers, once log, ids and places are known.
    fn reckon(&mut self) {
        let settled = self.cursors.values().map(|cursor| cursor.window.low()).max().unwrap_or(1);
        let end = self.end.unwrap_or(self.noted_next.max(self.noted_oldest.unwrap_or(1)));
        let next = end.max(self.noted_next).max(settled);
        if end < next {
            self.holes.push((end, next));
        }
        if self.end.is_none() {
            self.holds.oldest = next;
        }
        self.holds.next = next;
        if let Some(oldest) = self.noted_oldest.filter(|oldest| *oldest < self.holds.oldest) {
            self.fault(format!("{} missing", numbers(oldest, self.holds.oldest)));
        }
        for (first, end) in self.holes.clone() {
            self.fault(format!("{} missing", numbers(first, end)));
        }
        for (name, cursor) in &self.cursors {
            let low = cursor.window.low().max(self.holds.oldest);
            let pending = next.saturating_sub(low).saturating_sub(cursor.window.above());
            let pending = pending.min(next.saturating_sub(self.holds.oldest));
            self.holds.handlers.push(HandlerPlace { name: name.to_string(), pending });
        }
    }

    fn tried(&self, seq: u64, stored: Seq) -> Result<(), Malformed> {
        if stored.0 != seq {
            return Err(Malformed("it is of another event than its key says"));
        }
        if seq >= self.holds.next {
            return Err(Malformed("its number was never given"));
        }
        Ok(())
    }

    fn is_lost(&self, seq: u64) -> bool {
        self.lost.iter().chain(&self.holes).any(|(first, end)| (*first..*end).contains(&seq))
    }

    fn retry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (_, handler, seq) = keys::retry_of(key).ok_or(Malformed("its key"))?;
        self.tried(seq, Tried::decode(Kind::Retry, value)?.stored.seq)?;
        if let Some(Cursor { window, .. }) = self.cursors.get(&handler)
            && window.reaches(seq)
            && !window.contains(seq)
            && !self.is_lost(seq)
        {
            // The event would come twice. Out of reach, a start sees to it.
            return Err(Malformed("the handler's place is before it"));
        }
        self.holds.retries += 1;
        Ok(())
    }

    fn dead(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        // Its event may come again all the same, after a replay.
        let (_, seq) = keys::dead_of(key).ok_or(Malformed("its key"))?;
        self.tried(seq, Tried::decode(Kind::Dead, value)?.stored.seq)?;
        self.holds.dead_letters += 1;
        Ok(())
    }

    fn raw(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let number = keys::number_of(key).ok_or(Malformed("its key"))?;
        Undecodable::decode(value)?;
        self.next_raw = self.next_raw.max(number.saturating_add(1));
        self.holds.undecodable += 1;
        Ok(())
    }

    fn strangers(&mut self, db: &Db) -> sled::Result<()> {
        for tree in db.trees() {
            self.strangers_in(tree)?;
        }
        Ok(())
    }

    fn strangers_in(&mut self, tree: &Tree) -> sled::Result<()> {
        let ours = [
            keys::EVENTS,
            keys::IDS,
            keys::CURSORS,
            keys::RETRIES,
            keys::DEAD,
            keys::RAW,
            keys::PARTS,
        ];
        let own = [
            keys::STORE,
            keys::NEXT,
            keys::OLDEST,
            keys::LOG,
            keys::NEXT_RAW,
            keys::STARTED,
            keys::JOURNAL,
        ];
        let mut from = Vec::new();
        // Skips over what was read already.
        while let Some(entry) = tree.range(from.clone()..).next() {
            let (key, value) = entry?;
            let prefix = ours.iter().find(|prefix| keys::all(**prefix).contains(&key.to_vec()));
            if let Some(prefix) = prefix {
                from = keys::all(*prefix).end;
                continue;
            }
            let noted = if *key == *keys::HOOKS {
                Some(decode_hooks(&value).map(drop))
            } else if key.starts_with(keys::BOOKMARK) {
                Some(decode_place(&value).map(drop))
            } else {
                None
            };
            if let Some(noted) = noted {
                if let Err(error) = noted {
                    self.fault(format!("{}: {error}", key.escape_ascii()));
                    self.bad.insert(key.to_vec());
                }
            } else if !own.contains(&&*key) {
                self.fault(format!("the entry {} is none of ours", key.escape_ascii()));
                self.bad.insert(key.to_vec());
            }
            from = [&key, &[0][..]].concat();
        }
        Ok(())
    }
}

/// Parts of a whole value were read with it; here only those are found that belong to none.
fn part(db: &Db, key: &[u8]) -> sled::Result<Result<(), Malformed>> {
    let Some((of, index)) = keys::part_of(key) else { return Ok(Err(Malformed("its key"))) };
    let owner = db.get(of)?;
    let stub = owner.as_deref().and_then(Stub::of);
    let parts = stub.map_or(0, |stub| stub.parts());
    let belongs = (1..=parts).contains(&usize::try_from(index).unwrap_or(0));
    if belongs { Ok(Ok(())) } else { Ok(Err(Malformed("it belongs to nothing"))) }
}
