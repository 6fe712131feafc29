//! The log and its ids as they stand on disk, read at start.
//!
//! Of a large log only the end is read: the records whose ids are not packed. What is noted of the
//! rest must fit at both its ends, and the packed ids must be without a hole. Whatever is damaged
//! in the middle is found when it is read.

use sled::IVec;

use super::{
    OpenError, Options,
    database::Db,
    id_set::IdSet,
    ids::Packed,
    keys,
    load::{Loaded, damaged, newest_first, number, with_its_parts},
    long::size,
    packing::Note,
    record::Head,
    wire::Kind,
};
use crate::clock::Timestamp;

/// What bounds the window, and whether it is still open: ids are read newest first.
struct Window {
    ends_before: Timestamp,
    max: usize,
    open: bool,
}

/// The log as far as it was read.
#[derive(Default)]
struct Read {
    note: Option<Note>,
    /// Records are read from this number on.
    from: u64,
    /// The first number read so far, and the one after the last.
    ends: Option<(u64, u64)>,
    /// A record begins where the packed part ends.
    border: bool,
    packed_bytes: u64,
}

impl Loaded {
    /// All of the log that has at most `read_whole` bytes of packed records, or the end of it.
    pub(super) fn log(
        &mut self,
        db: &Db,
        options: &Options,
        now: Timestamp,
        read_whole: u64,
    ) -> Result<(), OpenError> {
        let note = db.get(keys::LOG)?.map(|value| Note::decode(&value)).transpose();
        let note = note.map_err(|error| damaged(keys::LOG, error))?;
        let from = note.filter(|note| note.bytes > read_whole).map_or(0, |note| note.until);
        let ends_before = now.before(options.dedup_window);
        let mut window = Window { ends_before, max: options.dedup_max, open: true };
        let mut read = Read { note, from, ..Read::default() };
        self.dedup.known = IdSet::of_up_to(window.max);
        for entry in newest_first(db, keys::event(from)..keys::all(keys::EVENTS).end) {
            self.record(db, &mut read, &mut window, &entry?)?;
        }
        self.ends(db, &read)?;
        self.note(&read)?;
        self.packed(db, &read, &mut window)
    }

    fn record(
        &mut self,
        db: &Db,
        read: &mut Read,
        window: &mut Window,
        (key, value): &(IVec, IVec),
    ) -> Result<(), OpenError> {
        let head = Head::of(key, value).map_err(|e| damaged(key, e))?;
        if let Some((first, _)) = read.ends.filter(|(first, _)| *first != head.end()) {
            return Err(missing(head.end(), first));
        }
        read.ends = Some((head.first, read.ends.map_or(head.end(), |(_, end)| end)));
        with_its_parts(db, Kind::Group, key, value)?;
        let bytes = size(key, value);
        self.live_bytes += bytes;
        let until = read.note.map_or(0, |note| note.until);
        read.border |= head.first == until;
        if head.first < until {
            read.border |= head.end() == until;
            read.packed_bytes += bytes;
            return Ok(());
        }
        let kept = self.take_ids(head, window);
        self.dedup.unpacked.push_before(kept, bytes);
        Ok(())
    }

    /// Begins at the noted number; ends where all that is noted ends.
    fn ends(&mut self, db: &Db, read: &Read) -> Result<(), OpenError> {
        let begins = match read.note.filter(|_| read.from > 0) {
            Some(note) => before(db, note, read)?,
            None => read.ends.map(|(first, _)| first),
        };
        let noted = number(db, keys::NEXT)?;
        let end = read.ends.map(|(_, end)| end).or(begins.map(|_| read.from));
        if let Some(end) = end.filter(|end| *end < noted) {
            return Err(missing(end, noted));
        }
        self.next = end.unwrap_or(noted);
        self.oldest = begins.unwrap_or(self.next);
        let oldest = number(db, keys::OLDEST)?;
        if oldest == self.oldest { Ok(()) } else { Err(missing(oldest, self.oldest)) }
    }

    /// What is noted fits to what was read.
    fn note(&mut self, read: &Read) -> Result<(), OpenError> {
        let wrong = |what: &str| {
            Err(OpenError::Damaged(format!("m|log is wrong: it is not true of {what}")))
        };
        let Some(note) = read.note else {
            let note = Note { until: self.oldest, bytes: 0, from: self.oldest };
            self.dedup.unpacked.note = note;
            return Ok(());
        };
        if note.until < self.oldest || note.until > self.next {
            return wrong("the log's numbers");
        }
        if read.from == 0 {
            if !read.border && read.ends.is_some() {
                return wrong("the log's records");
            }
            if note.bytes != read.packed_bytes {
                return wrong("the log's size");
            }
        } else {
            self.live_bytes += note.bytes;
            if note.until == self.oldest {
                return wrong("the log's size");
            }
        }
        self.dedup.unpacked.note = note;
        Ok(())
    }

    /// The packed ids: without a hole from where the window begins to the unpacked ones.
    fn packed(&mut self, db: &Db, read: &Read, window: &mut Window) -> Result<(), OpenError> {
        let Note { until, from, .. } = self.dedup.unpacked.note;
        let (mut begin, mut hole) = (until, false);
        for entry in newest_first(db, keys::all(keys::IDS)) {
            let (key, value) = entry?;
            let head = Head::decode_ids(&value).and_then(|head| head.checked(&key));
            let head = head.map_err(|e| damaged(&key, e))?;
            if head.end() > until {
                let what = if read.note.is_some() { "wrong" } else { "missing" };
                return Err(OpenError::Damaged(format!("m|log is {what}")));
            }
            hole |= head.end() != begin;
            if !hole {
                begin = head.first;
            }
            let packed = Packed::from(&head);
            self.take_ids(head, window);
            if window.open {
                self.dedup.packed.push_front(packed);
            } else {
                self.expired.push(packed.first);
            }
        }
        if read.note.is_none() {
            self.dedup.unpacked.note.from = begin;
        } else if begin > from.min(until) {
            return Err(OpenError::Damaged(format!(
                "the ids of the events {from} to {begin} are missing"
            )));
        }
        Ok(())
    }

    /// What is left of it: no ids once the window is over.
    fn take_ids(&mut self, mut head: Head, window: &mut Window) -> Head {
        window.open = window.open && !self.dedup.is_over(&head, window.ends_before, window.max);
        if window.open {
            self.dedup.known.extend(&head.ids);
        } else {
            self.dedup.low = self.dedup.low.max(head.end());
            head.ids = Vec::new();
        }
        head
    }
}

/// The part of the log that is not read: it must lie between its first number, which this
/// returns, and the part that is. None if there is nothing in either.
fn before(db: &Db, note: Note, read: &Read) -> Result<Option<u64>, OpenError> {
    let begin = read.ends.map(|(first, _)| first);
    if let Some(first) = begin.filter(|first| *first != note.until) {
        return Err(missing(note.until, first));
    }
    let below = || db.range(keys::all(keys::EVENTS).start..keys::event(note.until));
    let head = |entry: sled::Result<(IVec, IVec)>| {
        let (key, value) = entry?;
        Head::of(&key, &value).map_err(|e| damaged(&key, e))
    };
    let (Some(first), Some(last)) = (below().next(), below().next_back()) else {
        return Ok(begin);
    };
    let last = head(last)?;
    if last.end() != note.until {
        return Err(missing(last.end(), note.until));
    }
    Ok(Some(head(first)?.first))
}

fn missing(first: u64, end: u64) -> OpenError {
    OpenError::Damaged(format!("events {first} to {end} are missing"))
}
