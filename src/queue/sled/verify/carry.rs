//! A new store of what is whole, put in the place of the damaged one, which is kept.

use std::{
    borrow::Cow,
    fs::{self, DirBuilder, File},
    io, mem,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    Case, Evidence,
    check::Found,
    scan::{Pieces, Spot},
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        Seq, StoredEvent,
        sled::{
            OpenError,
            database::Db,
            dedup::Dedup,
            disk::open_with_segments,
            entry::{Cursor, Identity, Tried, Undecodable, encode_number},
            journal, keys, long,
            mark::{Mark, MarkFile},
            reader::ReadError,
            record::{Head, Packing, decode_group, encode_event},
            segments,
            window::Window,
            wire::Kind,
            writer::Entries,
        },
    },
};

/// Bytes in one commit.
const COMMIT: usize = 1 << 20;

/// The new store being filled.
pub(super) struct Carrier<'a> {
    pub(super) db: Db,
    /// What a search found, to fill holes with.
    spare: Option<&'a Pieces>,
    /// What makes ids, if those in the records are of no use.
    pub(super) new_ids: Option<Dedup>,
    entries: Entries,
    bytes: usize,
    any_parts: bool,
    /// First number in its log, once there is one, and the one after its last.
    pub(super) oldest: Option<u64>,
    end: u64,
    now: Timestamp,
}

/// Where the damaged database is kept afterwards.
pub(super) fn carry(
    case: &Case,
    handlers: &[HandlerName],
    now: Timestamp,
) -> Result<PathBuf, OpenError> {
    let directory = case.place.directory();
    let aside = directory.join(format!("damaged-{}", now.to_string().replace(':', "-")));
    let work = directory.join("repair");
    if work.exists() {
        // Of a repair that was cut short: it may hold the damaged database.
        fs::rename(&work, aside.with_extension("unfinished"))?;
    }
    let database = work.join("sled");
    DirBuilder::new().recursive(true).mode(0o700).create(&database)?;
    // An entry that fits into the old one fits.
    let size = segments::noted(&case.place.database()).ok().flatten();
    let db = open_with_segments(&database, size.unwrap_or(segments::LARGEST))?;
    let mut carrier = Carrier {
        db,
        spare: case.spare.as_ref(),
        new_ids: None,
        entries: Entries::new(),
        bytes: 0,
        any_parts: false,
        oldest: None,
        end: 1,
        now,
    };
    let mark = match &case.evidence {
        Evidence::Database(old, found) => carrier.database(old, found, case.mark.as_ref()),
        Evidence::File(pieces) => carrier.file(pieces, handlers, case.mark.as_ref()),
    }?;
    carrier.commit()?;
    drop(carrier);
    for file in [database.join("conf"), database.join("db"), database, work.clone()] {
        File::open(file)?.sync_all()?;
    }
    put_in_place(directory, &work, &aside)?;
    note(directory, mark)?;
    Ok(aside)
}

/// Swaps the databases at once, so that there is no moment without one.
fn put_in_place(directory: &Path, work: &Path, aside: &Path) -> io::Result<()> {
    let (old, new) = (directory.join("sled"), work.join("sled"));
    if old.exists() {
        renameat_with(CWD, &old, CWD, &new, RenameFlags::EXCHANGE)?;
    } else {
        fs::rename(&new, &old)?;
    }
    // It is the old database's; the new one begins with a new one.
    match fs::rename(journal::path(directory), journal::path(work)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::copy(directory.join("high-water"), work.join("high-water"))?;
    fs::rename(work, aside)?;
    File::open(directory)?.sync_all()
}

fn note(directory: &Path, mark: Mark) -> io::Result<()> {
    let mut file = MarkFile::open(directory)?;
    file.empty()?;
    file.write(mark)
}

/// The whole value; None if a part of it is damaged or missing.
fn whole<'a>(old: &Db, key: &[u8], value: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, OpenError> {
    match long::whole(old, key, value) {
        Ok(whole) => Ok(whole),
        Err(ReadError::Sled(error)) => Err(error.into()),
        Err(ReadError::Damaged(_) | ReadError::Entry(..)) => Ok(None),
    }
}

impl Carrier<'_> {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), OpenError> {
        self.bytes += key.len() + value.len();
        self.entries.push((key, Some(value)));
        if self.bytes >= COMMIT { self.commit() } else { Ok(()) }
    }

    pub(super) fn commit(&mut self) -> Result<(), OpenError> {
        self.bytes = 0;
        let entries = mem::take(&mut self.entries);
        let entries = long::expand(&self.db, entries, &mut self.any_parts)?;
        self.db.apply(&entries)?;
        Ok(self.db.flush()?)
    }

    /// Notes what was lost before `first`, if something was.
    fn reach(&mut self, first: u64) -> Result<(), OpenError> {
        if self.oldest.is_none() {
            (self.oldest, self.end) = (Some(first), first);
        }
        while self.end < first {
            let found = self.spare.and_then(|spare| spare.between(self.end, first));
            let until = found.as_ref().map_or(first, |(head, _)| head.first);
            while self.end < until {
                let count = u32::try_from(until - self.end).unwrap_or(u32::MAX);
                let gap = Head { first: self.end, count, received: self.now, ids: Vec::new() };
                self.record(&gap, &[])?;
            }
            if let Some((head, events)) = found {
                self.record(&head, &events)?;
            }
        }
        Ok(())
    }

    /// The next record of the log; without events it stands for lost ones.
    fn record(&mut self, head: &Head, events: &[StoredEvent]) -> Result<(), OpenError> {
        let mut packing = Packing::new(head.first, head.received);
        for stored in events {
            let id = self
                .new_ids
                .as_ref()
                .map(|dedup| dedup.id(&stored.origin, stored.event.attributes(), None));
            packing.push(&encode_event(stored), id.as_slice());
        }
        if self.new_ids.is_none() {
            packing = packing.with_ids(head.ids.clone());
        }
        let value = if events.is_empty() { head.encode_gap() } else { packing.seal().1 };
        self.end = head.end();
        self.put(keys::event(head.first), value)
    }

    /// The identity to go on with. If it is lost, the ids that were made with it are, too.
    fn identity(&mut self, known: Option<&Identity>) -> Result<Identity, OpenError> {
        if let Some(identity) = known {
            return Ok(identity.clone());
        }
        let identity = Identity::new()?;
        self.new_ids = Some(Dedup::new(&identity.key));
        Ok(identity)
    }

    /// Ends the log at `next`, and writes down what the store notes of itself.
    fn close(&mut self, next: u64, next_raw: u64, identity: &Identity) -> Result<Mark, OpenError> {
        let next = next.max(self.end);
        if self.oldest.is_some() {
            self.reach(next)?;
        }
        let oldest = self.oldest.unwrap_or(next);
        self.put(keys::STORE.to_vec(), identity.encode())?;
        self.put(keys::NEXT.to_vec(), encode_number(next))?;
        self.put(keys::OLDEST.to_vec(), encode_number(oldest))?;
        self.put(keys::NEXT_RAW.to_vec(), encode_number(next_raw))?;
        Ok(Mark { store: identity.store, next, low: oldest, count: 0 })
    }

    fn database(
        &mut self,
        old: &Db,
        found: &Found,
        mark: Option<&Mark>,
    ) -> Result<Mark, OpenError> {
        let known = self.spare.and_then(|spare| spare.identity.clone());
        let identity = self.identity(found.identity.as_ref().or(known.as_ref()))?;
        if found.holds.events > 0 {
            (self.oldest, self.end) = (Some(found.first()), found.first());
        }
        self.log(old, found)?;
        self.ids_of_database(old, found)?;
        for prefix in [keys::CURSORS, keys::RETRIES, keys::DEAD, keys::RAW] {
            self.all(old, found, prefix)?;
        }
        for entry in old.scan_prefix(keys::BOOKMARK).chain(old.scan_prefix(keys::HOOKS)) {
            let (key, value) = entry?;
            if !found.bad.contains(&*key) {
                self.put(key.to_vec(), value.to_vec())?;
            }
        }
        self.places(old, found, mark)?;
        self.lost_retries(found)?;
        let next = mark.map_or(0, |mark| mark.next).max(found.holds.next);
        self.close(next, found.next_raw, &identity)
    }

    fn log(&mut self, old: &Db, found: &Found) -> Result<(), OpenError> {
        for (index, entry) in old.range(keys::all(keys::EVENTS)).enumerate() {
            let (key, value) = entry?;
            if index % 8 == 7 {
                old.pump(&key)?;
            }
            if found.bad.contains(&*key) {
                continue;
            }
            let whole = whole(old, &key, &value)?.unwrap_or_default();
            if let Ok((head, events)) = decode_group(&whole) {
                self.reach(head.first)?;
                self.record(&head, &events)?;
            }
        }
        Ok(())
    }

    /// Entries of a kind. Parts come with the values that they are of.
    fn all(&mut self, old: &Db, found: &Found, prefix: u8) -> Result<(), OpenError> {
        for (index, entry) in old.range(keys::all(prefix)).enumerate() {
            let (key, value) = entry?;
            if index % 8 == 7 {
                old.pump(&key)?;
            }
            if found.bad.contains(&*key) {
                continue;
            }
            if let Some(value) = whole(old, &key, &value)? {
                self.put(key.to_vec(), value.into_owned())?;
            }
        }
        Ok(())
    }

    /// Retries whose entries are damaged, as far as the file has them elsewhere.
    fn lost_retries(&mut self, found: &Found) -> Result<(), OpenError> {
        for key in found.bad.iter().filter(|key| keys::all(keys::RETRIES).contains(*key)) {
            let spot = keys::retry_of(key)
                .zip(self.spare)
                .and_then(|((_, _, seq), spare)| Some((spare, spare.retries.get(&seq)?.1)));
            if let Some((spare, spot)) = spot {
                self.put(key.clone(), spare.read(spot)?)?;
            }
        }
        Ok(())
    }

    /// A handler whose place is lost begins where it cannot miss anything.
    fn places(&mut self, old: &Db, found: &Found, mark: Option<&Mark>) -> Result<(), OpenError> {
        let low = found.first().max(mark.map_or(0, |mark| mark.low));
        let lost = found.bad.iter().filter(|key| keys::all(keys::CURSORS).contains(*key));
        for handler in lost.filter_map(|key| keys::handler_of(key)) {
            let mut cursor =
                Cursor { window: Window::starting_at(low), seen: self.now, paused: false };
            for key in old.range(keys::all(keys::RETRIES)).keys() {
                let key = key?;
                if let Some((_, _, seq)) = keys::retry_of(&key).filter(|(_, of, _)| *of == handler)
                    && !found.bad.contains(&*key)
                {
                    cursor.window.settle(seq);
                }
            }
            for key in old.range(keys::all(keys::DEAD)).keys() {
                let key = key?;
                if let Some((_, seq)) = keys::dead_of(&key).filter(|(of, _)| *of == handler)
                    && !found.bad.contains(&*key)
                {
                    cursor.window.settle(seq);
                }
            }
            self.put(keys::cursor(&handler), cursor.encode())?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        pieces: &Pieces,
        handlers: &[HandlerName],
        mark: Option<&Mark>,
    ) -> Result<Mark, OpenError> {
        let identity = self.identity(pieces.identity.as_ref())?;
        for (head, events) in pieces.log() {
            self.reach(head.first)?;
            self.record(&head, &events)?;
        }
        if self.new_ids.is_none() {
            self.ids_of_file(pieces)?;
        }
        let next = mark.map_or(self.end, |mark| mark.next.max(self.end));
        if self.oldest.is_some() {
            self.reach(next)?;
        }
        let dedup = Dedup::new(&identity.key);
        self.retries(pieces, &dedup, next)?;
        let next_raw = self.undecodable(pieces)?;
        let low = self.oldest.unwrap_or(next);
        for handler in handlers {
            let cursor = Cursor { window: Window::starting_at(low), seen: self.now, paused: false };
            self.put(keys::cursor(handler), cursor.encode())?;
        }
        self.close(next, next_raw, &identity)
    }

    fn ids_of_file(&mut self, pieces: &Pieces) -> Result<(), OpenError> {
        let mut end = 0;
        for (first, (head, spot)) in &pieces.ids {
            if *first < end {
                // An older version of what is in the one before.
                continue;
            }
            end = head.end();
            if let Ok(head) = Head::decode_ids(&pieces.read(*spot)?) {
                self.packed(head)?;
            }
        }
        Ok(())
    }

    /// Whose they are is not known, so that everyone gets them, as events of their own.
    fn retries(&mut self, pieces: &Pieces, dedup: &Dedup, next: u64) -> Result<(), OpenError> {
        for (seq, (_, spot)) in &pieces.retries {
            if pieces.groups.contains_key(seq) {
                continue;
            }
            let Ok(tried) = Tried::decode(Kind::Retry, &pieces.read(*spot)?) else { continue };
            let first = self.end.max(next);
            self.reach(first)?;
            let stored = StoredEvent { seq: Seq(first), ..tried.stored };
            let id = dedup.id(&stored.origin, stored.event.attributes(), None);
            let mut packing = Packing::new(first, self.now);
            packing.push(&encode_event(&stored), &[id]);
            self.end = first + 1;
            self.put(keys::event(first), packing.seal().1)?;
        }
        Ok(())
    }

    fn undecodable(&mut self, pieces: &Pieces) -> Result<u64, OpenError> {
        let mut number = 1;
        let spots: Vec<Spot> = pieces.undecodable.values().copied().collect();
        for spot in spots {
            let Some(value) = pieces.whole(spot)? else { continue };
            if Undecodable::decode(&value).is_ok() {
                self.put(keys::raw(number), value)?;
                number += 1;
            }
        }
        Ok(number)
    }
}
