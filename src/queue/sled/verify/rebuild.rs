//! A new store of what is whole, put in the place of the damaged one, which is kept.

use std::{
    borrow::Cow,
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use super::{
    case::{Case, Evidence},
    scan::{Pieces, Spot},
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        Seq, StoredEvent,
        sled::{
            ack_window::AckWindow,
            codec::{
                RETRY, Value,
                record::{Head, Packing, decode_group, encode_event},
                run::Run,
                values::{Cursor, DedupKey, LogBounds, Tried, Undecodable},
            },
            dedup::Dedup,
            keys,
            load::{Collected, Survey, random_key},
            read_error::{ReadError, whole},
            write::high_water::{self, HighWater, HighWaterFile},
        },
    },
    store::{Batch, Disk, Error, Files, Store, View},
};

/// Bytes in one commit.
const COMMIT: usize = 1 << 20;

/// The new store being filled.
struct Rebuild<'a> {
    store: Store,
    /// What a search found, to fill holes with.
    spare: Option<&'a Pieces>,
    /// The dedup key to go on with.
    key: DedupKey,
    /// What makes ids, if those in the records are of no use.
    new_ids: Option<Dedup>,
    batch: Batch,
    bytes: usize,
    /// First number in its log, once there is one, and the one after its last.
    oldest: Option<u64>,
    end: u64,
    now: Timestamp,
}

/// Makes the new store and swaps it in; where the damaged one is kept afterwards.
pub(super) fn rebuild(
    case: &Case,
    handlers: &[HandlerName],
    now: Timestamp,
) -> Result<PathBuf, Error> {
    let directory = case.directory.path();
    let aside = directory.join(format!("damaged-{}", now.to_string().replace(':', "-")));
    let work = directory.join("repair");
    if work.exists() {
        // Of a repair that was cut short: it may hold the damaged store.
        fs::rename(&work, aside.with_extension("unfinished")).map_err(Error::at(&work))?;
    }
    DirBuilder::new().mode(0o700).create(&work).map_err(Error::at(&work))?;
    let files = Files(work.join("store"));
    let (disk, mark) = (Disk::default(), case.mark.as_ref());
    let known = match &case.evidence {
        Evidence::Database(view, ..) => view.store_id().ok().flatten(),
        Evidence::Files(pieces) => pieces.store,
    };
    let id = known.or_else(|| case.spare.as_ref()?.store);
    let mut rebuild = Rebuild {
        store: Store::create(&files, keys::LAYOUT, &disk, id)?,
        spare: case.spare.as_ref(),
        key: DedupKey::default(),
        new_ids: None,
        batch: Batch::new(),
        bytes: 0,
        oldest: None,
        end: 1,
        now,
    };
    let (low, next) = match &case.evidence {
        Evidence::Database(old, survey, faults) => rebuild.database(old, survey, faults, mark),
        Evidence::Files(pieces) => rebuild.files(pieces, handlers, mark),
    }?;
    rebuild.commit()?;
    rebuild.store.checkpoint()?;
    let store = rebuild.store.id();
    rebuild.store.close()?;
    let written = high_water::path(directory);
    match fs::copy(&written, high_water::path(&work)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::at(&written)(error));
        }
        Ok(_) | Err(_) => {}
    }
    case.directory.give_to_owner(&work)?;
    // Both are whole until here.
    case.directory.swap(&files)?;
    fs::rename(&work, &aside).map_err(Error::at(&work))?;
    File::open(directory).and_then(|d| d.sync_all()).map_err(Error::at(directory))?;
    let mut file = HighWaterFile::open(directory, &disk)?;
    file.write(HighWater { store, next, low, count: 0, at: now })?;
    case.directory.give_to_owner(&written)?;
    Ok(aside)
}

/// The whole value; `None` if a part of it is damaged or missing.
fn all_of<'a>(old: &View, key: &[u8], value: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Error> {
    match whole(old, key, value) {
        Ok(whole) => Ok(whole),
        Err(ReadError::Store(error)) => Err(error),
        Err(ReadError::Damaged(_) | ReadError::Entry(..)) => Ok(None),
    }
}

impl Rebuild<'_> {
    fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) -> Result<(), Error> {
        self.bytes += value.len();
        self.batch.put(key, value);
        if self.bytes >= COMMIT { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        self.store.commit(std::mem::take(&mut self.batch))
    }

    /// Notes what was lost before `first`, if something was.
    fn reach(&mut self, first: u64) -> Result<(), Error> {
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
    fn record(&mut self, head: &Head, events: &[StoredEvent]) -> Result<(), Error> {
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

    /// Goes on with this dedup key. If it is lost, the ids that were made with it are, too.
    fn go_on_with(&mut self, known: Option<DedupKey>) -> Result<(), Error> {
        if let Some(key) = known {
            self.key = key;
            return Ok(());
        }
        self.key = random_key()?;
        self.new_ids = Some(Dedup::new(&self.key));
        Ok(())
    }

    /// Ends the log at `next`, and writes down what the queue notes of itself; where the log begins
    /// and ends.
    fn finish(
        &mut self,
        next: u64,
        next_raw: u64,
        runs: impl Iterator<Item = Result<Run, Error>>,
        ids_from: Option<u64>,
    ) -> Result<(u64, u64), Error> {
        let next = next.max(self.end);
        if self.oldest.is_some() {
            self.reach(next)?;
        }
        let oldest = self.oldest.unwrap_or(next);
        let ids_from = if self.new_ids.is_some() {
            oldest
        } else {
            self.runs(runs, ids_from.unwrap_or(u64::MAX).min(oldest), oldest)?
        };
        self.put(keys::DEDUP, self.key.encode())?;
        self.put(keys::LOG, LogBounds { oldest, next, ids_from }.encode())?;
        self.put(keys::NEXT_RAW, next_raw.encode())?;
        Ok((oldest, next))
    }

    /// Ids whose events are not in the new log: those of the others stand with their events. Runs
    /// that are lost become empty ones, so that the rest follow each other; from where on there are
    /// some.
    fn runs(
        &mut self,
        runs: impl Iterator<Item = Result<Run, Error>>,
        from: u64,
        oldest: u64,
    ) -> Result<u64, Error> {
        self.commit()?;
        let (mut end, mut begin) = (from, from);
        let mut is_first = true;
        for run in runs {
            let Run { mut head, .. } = run?;
            if head.first >= oldest || (!is_first && head.first < end) {
                // Its events are there, or it is an older one than the one before.
                continue;
            }
            if is_first {
                begin = begin.min(head.first);
                end = if head.first < from { head.first } else { from };
                is_first = false;
            }
            self.empty_run(end, head.first, head.received)?;
            if head.end() > oldest {
                let mut there = HashSet::new();
                for entry in self.store.view().range(keys::event(oldest)..keys::event(head.end())) {
                    let (key, value) = entry?;
                    let record = Head::of(&key, &value);
                    there.extend(record.map_err(|e| Error::malformed("a new record", e))?.ids);
                }
                head.ids.retain(|id| !there.contains(id));
                head.count = u32::try_from(oldest - head.first).unwrap_or(u32::MAX);
            }
            end = head.end();
            self.put(keys::ids(head.first), Run { head, bytes: 0 }.encode())?;
        }
        self.empty_run(end, oldest, self.now)?;
        Ok(begin)
    }

    fn empty_run(&mut self, first: u64, end: u64, received: Timestamp) -> Result<(), Error> {
        let mut first = first;
        while first < end {
            let count = u32::try_from(end - first).unwrap_or(u32::MAX);
            let head = Head { first, count, received, ids: Vec::new() };
            self.put(keys::ids(first), Run { head, bytes: 0 }.encode())?;
            first += u64::from(count);
        }
        Ok(())
    }

    fn database(
        &mut self,
        old: &View,
        survey: &Survey,
        faults: &Collected,
        mark: Option<&HighWater>,
    ) -> Result<(u64, u64), Error> {
        self.go_on_with(survey.key.or_else(|| self.spare?.key))?;
        let bounds = survey.contents.bounds;
        if survey.events > 0 {
            (self.oldest, self.end) = (Some(bounds.oldest), bounds.oldest);
        }
        self.log(old, faults)?;
        for prefix in [keys::CURSORS, keys::RETRIES, keys::DEAD, keys::RAW] {
            self.all(old, faults, prefix)?;
        }
        for entry in old.scan_prefix(keys::BOOKMARK).chain(old.scan_prefix(keys::HOOKS)) {
            let (key, value) = entry?;
            if !faults.bad.contains(&*key) {
                self.put(key.to_vec(), value.to_vec())?;
            }
        }
        self.cursors(survey, faults, mark)?;
        self.lost_retries(faults)?;
        let next = mark.map_or(0, |mark| mark.next).max(bounds.next);
        let runs = old.range(keys::all(keys::IDS)).filter_map(|entry| match entry {
            Ok((key, value)) => Run::of(&key, &value).ok().map(Ok),
            Err(error) => Some(Err(error)),
        });
        self.finish(next, survey.contents.next_raw, runs, Some(bounds.ids_from))
    }

    fn log(&mut self, old: &View, faults: &Collected) -> Result<(), Error> {
        for entry in old.range(keys::all(keys::EVENTS)) {
            let (key, value) = entry?;
            if faults.bad.contains(&*key) {
                continue;
            }
            let whole = all_of(old, &key, &value)?.unwrap_or_default();
            if let Ok((head, events)) = decode_group(&whole) {
                self.reach(head.first)?;
                self.record(&head, &events)?;
            }
        }
        Ok(())
    }

    /// Entries of a kind. Parts come with the values that they are of.
    fn all(&mut self, old: &View, faults: &Collected, prefix: u8) -> Result<(), Error> {
        for entry in old.range(keys::all(prefix)) {
            let (key, value) = entry?;
            if faults.bad.contains(&*key) {
                continue;
            }
            if let Some(value) = all_of(old, &key, &value)? {
                self.put(key.to_vec(), value.into_owned())?;
            }
        }
        Ok(())
    }

    /// Retries whose entries are damaged, as far as the files have them elsewhere.
    fn lost_retries(&mut self, faults: &Collected) -> Result<(), Error> {
        for key in faults.bad.iter().filter(|key| keys::all(keys::RETRIES).contains(*key)) {
            let spot = keys::retry_of(key)
                .zip(self.spare)
                .and_then(|((_, _, seq), spare)| Some((spare, spare.retries.get(&seq)?.1)));
            if let Some((spare, spot)) = spot {
                self.put(key.clone(), spare.read(spot)?)?;
            }
        }
        Ok(())
    }

    /// A handler whose cursor is lost begins where it cannot miss anything.
    fn cursors(
        &mut self,
        survey: &Survey,
        faults: &Collected,
        mark: Option<&HighWater>,
    ) -> Result<(), Error> {
        let low = survey.contents.bounds.oldest.max(mark.map_or(0, |mark| mark.low));
        let lost = faults.bad.iter().filter(|key| keys::all(keys::CURSORS).contains(*key));
        for handler in lost.filter_map(|key| keys::handler_of(key)) {
            let mut window = AckWindow::starting_at(low);
            for (_, seq, _) in survey.contents.retries.iter().filter(|(of, ..)| *of == handler) {
                window.settle(*seq);
            }
            for (id, ..) in &survey.contents.dead {
                if let crate::queue::DeadLetterId::Delivery(of, seq) = id
                    && *of == handler
                {
                    window.settle(seq.0);
                }
            }
            let cursor = Cursor { window, seen: self.now, paused: false };
            self.put(keys::cursor(&handler), cursor.encode())?;
        }
        Ok(())
    }

    fn files(
        &mut self,
        pieces: &Pieces,
        handlers: &[HandlerName],
        mark: Option<&HighWater>,
    ) -> Result<(u64, u64), Error> {
        self.go_on_with(pieces.key)?;
        for (head, events) in pieces.log() {
            self.reach(head.first)?;
            self.record(&head, &events)?;
        }
        let next = mark.map_or(self.end, |mark| mark.next.max(self.end));
        if self.oldest.is_some() {
            self.reach(next)?;
        }
        let dedup = Dedup::new(&self.key);
        self.retries(pieces, &dedup, next)?;
        let next_raw = self.undecodable(pieces)?;
        let low = self.oldest.unwrap_or(next);
        for handler in handlers {
            let window = AckWindow::starting_at(low);
            let cursor = Cursor { window, seen: self.now, paused: false };
            self.put(keys::cursor(handler), cursor.encode())?;
        }
        let runs = pieces.ids.values().filter_map(|(_, spot)| match pieces.read(*spot) {
            Ok(value) => Run::decode(&value).ok().map(Ok),
            Err(error) => Some(Err(error.into())),
        });
        self.finish(next, next_raw, runs, None)
    }

    /// Whose they are is not known, so that everyone gets them, as events of their own.
    fn retries(&mut self, pieces: &Pieces, dedup: &Dedup, next: u64) -> Result<(), Error> {
        for (seq, (_, spot)) in &pieces.retries {
            if pieces.groups.contains_key(seq) {
                continue;
            }
            let Ok(tried) = Tried::decode(RETRY, &pieces.read(*spot)?) else { continue };
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

    fn undecodable(&mut self, pieces: &Pieces) -> Result<u64, Error> {
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
