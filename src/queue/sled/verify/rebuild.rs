//! A new store of what is whole: only thought of, to say what a repair would do; or made, and put in
//! the place of the damaged one, which is kept.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt,
};

use super::{
    case::Case,
    pieces::number,
    report::{HandlerCursor, Holds, Report},
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        StoredEvent,
        sled::{
            ack_window::AckWindow,
            codec::{
                RAW, RETRY, Value,
                record::{Head, Id, Packing, decode_group, encode_event},
                run::Run,
                values::{Cursor, LogBounds, Tried, Undecodable},
            },
            dedup::Dedup,
            keys,
            load::{Survey, numbers, random_key},
            write::high_water::{self, HighWater, HighWaterFile},
        },
    },
    store::{Batch, Disk, Error, Files, Store},
};

/// Bytes in one commit.
const COMMIT: usize = 1 << 20;

/// Prefixes of the entries beside the log that are carried over as they are.
const BESIDE: [&[u8]; 6] = [
    &[keys::CURSORS, b'|'],
    &[keys::RETRIES, b'|'],
    &[keys::DEAD, b'|'],
    &[keys::RAW, b'|'],
    keys::BOOKMARK,
    keys::HOOKS,
];

/// Says what a repair would do.
pub(super) fn plan(
    case: &Case,
    handlers: &[HandlerName],
    report: &mut Report,
) -> Result<(), Error> {
    Rebuild::fill(case, handlers, Timestamp::default(), &mut |_| Ok(()))?.tell(handlers, report);
    Ok(())
}

/// Makes the new store, and swaps it for the damaged one.
pub(super) fn repair(
    case: &Case,
    handlers: &[HandlerName],
    now: Timestamp,
    report: &mut Report,
) -> Result<(), Error> {
    let directory = case.directory.path();
    let aside = directory.join(format!("damaged-{}", now.to_string().replace(':', "-")));
    let work = directory.join("repair");
    if work.exists() {
        // Of a repair that was cut short: it may hold the damaged store.
        fs::rename(&work, aside.with_extension("unfinished")).map_err(Error::at(&work))?;
    }
    DirBuilder::new().mode(0o700).create(&work).map_err(Error::at(&work))?;
    let (files, disk) = (Files(work.join("store")), Disk::default());
    let mut store = Store::create(&files, keys::LAYOUT, &disk, case.id())?;
    let mut commit = |batch| store.commit(batch);
    let made = Rebuild::fill(case, handlers, now, &mut commit)?;
    made.tell(handlers, report);
    let (next, low) = (made.end, made.oldest);
    let mark = HighWater { store: store.id(), next, low, count: 0, at: now };
    store.checkpoint()?;
    store.close()?;
    let written = high_water::path(directory);
    if written.exists() {
        fs::copy(&written, high_water::path(&work)).map_err(Error::at(&written))?;
    }
    case.directory.give_to_owner(&work)?;
    // Both are whole until here.
    case.directory.swap(&files)?;
    fs::rename(&work, &aside).map_err(Error::at(&work))?;
    File::open(directory).and_then(|d| d.sync_all()).map_err(Error::at(directory))?;
    HighWaterFile::open(directory, &disk)?.write(mark)?;
    case.directory.give_to_owner(&written)?;
    report.kept_aside = Some(aside);
    Ok(())
}

/// The new store being filled.
struct Rebuild<'a> {
    case: &'a Case,
    /// Commits to it, if it is made at all.
    commit: &'a mut dyn FnMut(Batch) -> Result<(), Error>,
    batch: Batch,
    bytes: usize,
    now: Timestamp,
    /// The ids that were made with the key before are of no use.
    is_new_key: bool,
    dedup: Dedup,
    /// The first number in the log, and the one after the last.
    oldest: u64,
    end: u64,
    /// The ids of the first record that has some.
    first_ids: Vec<Id>,
    /// Numbers whose events nothing has: first, and the one after the last.
    lost: Vec<(u64, u64)>,
    events: u64,
    /// Of the events, those that only the files had.
    put_back: u64,
    undecodable: u64,
}

impl<'a> Rebuild<'a> {
    /// Fills it with all that is whole. The handlers are those whose cursors must be made anew if no
    /// cursor can be found.
    fn fill(
        case: &'a Case,
        handlers: &[HandlerName],
        now: Timestamp,
        commit: &'a mut dyn FnMut(Batch) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let known = case.key();
        let key = known.map_or_else(random_key, Ok)?;
        let mut rebuild = Self {
            case,
            commit,
            batch: Batch::new(),
            bytes: 0,
            now,
            is_new_key: known.is_none(),
            dedup: Dedup::new(&key),
            oldest: 0,
            end: 0,
            first_ids: Vec::new(),
            lost: Vec::new(),
            events: 0,
            put_back: 0,
            undecodable: 0,
        };
        rebuild.log()?;
        let next_raw = match &case.survey {
            Some(survey) => rebuild.entries(survey)?,
            None => rebuild.without_keys()?,
        };
        rebuild.cursors(handlers)?;
        let ids_from = rebuild.runs()?;
        let bounds = LogBounds { oldest: rebuild.oldest, next: rebuild.end, ids_from };
        rebuild.put(keys::DEDUP, key.encode())?;
        rebuild.put(keys::LOG, bounds.encode())?;
        rebuild.put(keys::NEXT_RAW, next_raw.encode())?;
        (rebuild.commit)(std::mem::take(&mut rebuild.batch))?;
        Ok(rebuild)
    }

    fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) -> Result<(), Error> {
        self.bytes += value.len();
        self.batch.put(key, value);
        if self.bytes >= COMMIT {
            self.bytes = 0;
            (self.commit)(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Every event that sled finds, with those that the files have between them; the numbers of all
    /// others are noted as lost.
    fn log(&mut self) -> Result<(), Error> {
        let Case { mark, survey, pieces, .. } = self.case;
        let mut groups = self.case.entries(&[keys::EVENTS, b'|']).peekable();
        let first = groups.peek().and_then(|group| keys::number_of(&group.as_ref().ok()?.0));
        let (first_found, end_found) = pieces.bounds().unzip();
        let (low, next) = mark.as_ref().map(|mark| (mark.low, mark.next)).unzip();
        let end = survey.as_ref().map(|survey| survey.contents.bounds.next).or(end_found);
        let next = end.max(next).unwrap_or(1);
        // If that is not noted, the log begins where nothing can be missed.
        let begin = [first, first_found, low].into_iter().flatten().min();
        let bounds = survey.as_ref().and_then(|survey| survey.noted_bounds);
        self.oldest = bounds.map_or(begin.unwrap_or(next), |bounds| bounds.oldest);
        self.end = self.oldest;
        for group in groups {
            if let Ok((head, events)) = decode_group(&group?.1) {
                self.reach(head.first)?;
                self.record(&head, &events)?;
            }
        }
        self.reach(next)
    }

    /// Fills the log up to this number with what the files have.
    fn reach(&mut self, next: u64) -> Result<(), Error> {
        while self.end < next {
            let found = self.case.pieces.group(self.end, next)?;
            let until = found.as_ref().map_or(next, |(head, _)| head.first);
            if self.end < until {
                self.lost.push((self.end, until));
            }
            while self.end < until {
                let count = u32::try_from(until - self.end).unwrap_or(u32::MAX);
                let gap = Head { first: self.end, count, received: self.now, ids: Vec::new() };
                self.record(&gap, &[])?;
            }
            if let Some((head, events)) = found {
                self.put_back += number(events.len());
                self.record(&head, &events)?;
            }
        }
        Ok(())
    }

    /// The next record of the log; without events it stands for lost ones.
    fn record(&mut self, head: &Head, events: &[StoredEvent]) -> Result<(), Error> {
        let id =
            |stored: &StoredEvent| self.dedup.id(&stored.origin, stored.event.attributes(), None);
        let ids = if self.is_new_key { events.iter().map(id).collect() } else { head.ids.clone() };
        self.events += number(events.len());
        if self.first_ids.is_empty() {
            self.first_ids.clone_from(&ids);
        }
        let mut packing = Packing::new(head.first, head.received).with_ids(ids);
        for stored in events {
            packing.push(&encode_event(stored), &[]);
        }
        let value = if events.is_empty() { head.encode_gap() } else { packing.seal().1 };
        self.end = head.end();
        self.put(keys::event(head.first), value)
    }

    fn is_lost(&self, seq: u64) -> bool {
        self.lost.iter().any(|(first, end)| (*first..*end).contains(&seq))
    }

    /// Nobody misses anything who begins here.
    fn low(&self) -> u64 {
        self.oldest.max(self.case.mark.as_ref().map_or(0, |mark| mark.low))
    }

    /// Carries over what is beside the log; a number that no undecodable push has had.
    fn entries(&mut self, survey: &Survey) -> Result<u64, Error> {
        for entry in BESIDE.into_iter().flat_map(|prefix| self.case.entries(prefix)) {
            let (key, value) = entry?;
            self.put(key, value)?;
        }
        // Retries whose entries are damaged, as far as the files have them elsewhere.
        for key in survey.bad.range(keys::all(keys::RETRIES)) {
            let Some((_, handler, seq)) = keys::retry_of(key) else { continue };
            let comes = match survey.contents.cursors.get(&handler).map(|cursor| &cursor.window) {
                Some(window) => window.reaches(seq) && !window.contains(seq),
                None => survey.bad.contains(&keys::cursor(&handler)) && seq >= self.low(),
            };
            let found = self.case.pieces.all(RETRY, seq..seq.saturating_add(1)).next();
            if let Some(value) = found.filter(|_| !comes || self.is_lost(seq)) {
                self.put(key.clone(), value?)?;
            }
        }
        Ok(survey.contents.next_raw)
    }

    /// Carries over what the files have beside the log. Whose a retry is, is not known, so that
    /// everyone gets it, as an event of its own.
    fn without_keys(&mut self) -> Result<u64, Error> {
        for value in self.case.pieces.all(RETRY, 0..u64::MAX) {
            let Ok(Tried { stored, .. }) = Tried::decode(RETRY, &value?) else { continue };
            let comes = (self.low()..self.end).contains(&stored.seq.0);
            if !comes || self.is_lost(stored.seq.0) {
                let ids = vec![self.dedup.id(&stored.origin, stored.event.attributes(), None)];
                let head = Head { first: self.end, count: 1, received: self.now, ids };
                self.record(&head, &[stored])?;
            }
        }
        for value in self.case.pieces.all(RAW, 0..u64::MAX) {
            let value = value?;
            if Undecodable::decode(&value).is_ok() {
                self.undecodable += 1;
                self.put(keys::raw(self.undecodable), value)?;
            }
        }
        Ok(self.undecodable + 1)
    }

    /// A handler whose cursor is lost begins where it cannot miss anything, but for what it has as
    /// retries and dead letters.
    fn cursors(&mut self, handlers: &[HandlerName]) -> Result<(), Error> {
        let survey = self.case.survey.as_ref();
        let mut lost: BTreeSet<HandlerName> = survey
            .into_iter()
            .flat_map(|survey| survey.bad.range(keys::all(keys::CURSORS)))
            .filter_map(|key| keys::handler_of(key))
            .collect();
        if self.case.is_older || survey.is_none() {
            let has_none = |handler: &&HandlerName| {
                survey.is_none_or(|survey| !survey.contents.cursors.contains_key(*handler))
            };
            lost.extend(handlers.iter().filter(has_none).cloned());
        }
        for handler in lost {
            let mut window = AckWindow::starting_at(self.low());
            let apart = survey.into_iter().flat_map(|survey| survey.contents.apart());
            apart.filter(|(of, _)| **of == handler).for_each(|(_, seq)| window.settle(seq));
            let cursor = Cursor { window, seen: self.now, paused: false };
            self.put(keys::cursor(&handler), cursor.encode())?;
        }
        Ok(())
    }

    /// Ids whose events are not in the new log: those of the others stand with their events. Each run
    /// is made as long as it must be for the next to follow it; from where on there are some.
    fn runs(&mut self) -> Result<u64, Error> {
        let (mut last, mut begin): (Option<Head>, _) = (None, self.oldest);
        if self.is_new_key {
            return Ok(begin);
        }
        for run in self.case.runs() {
            let Ok(Run { mut head, .. }) = Run::decode(&run?) else { continue };
            let end = last.as_ref().map_or(0, Head::end);
            if head.first < end || head.first >= self.oldest {
                // Older ones than those before, or ids that stand with their events.
                continue;
            }
            begin = begin.min(head.first);
            if head.end() > self.oldest {
                self.cut(&mut head);
            }
            if let Some(before) = last.replace(head.clone()) {
                self.run(before, head.first)?;
            }
        }
        if let Some(last) = last {
            self.run(last, self.oldest)?;
        }
        Ok(begin)
    }

    /// Leaves out the ids of events that are in the log, or lost from there: those are stored if they
    /// are sent again.
    fn cut(&self, run: &mut Head) {
        let is_lost = self.is_lost(self.oldest);
        let behind = run.ids.iter().position(|id| is_lost || self.first_ids.contains(id));
        run.ids.truncate(behind.unwrap_or(run.ids.len()));
    }

    fn run(&mut self, mut head: Head, end: u64) -> Result<(), Error> {
        head.count = u32::try_from(end - head.first).unwrap_or(u32::MAX);
        self.put(keys::ids(head.first), Run { head, bytes: 0 }.encode())
    }

    /// Tells what is in it. Of a store that sled cannot open, nothing else is known to be whole.
    fn tell(&self, handlers: &[HandlerName], report: &mut Report) {
        report.repair = self.steps();
        if self.case.survey.is_some() {
            return;
        }
        let cursor =
            |name: &HandlerName| HandlerCursor { name: name.to_string(), pending: self.events };
        report.holds = Holds {
            events: self.events,
            oldest: self.oldest,
            next: self.end,
            handlers: handlers.iter().map(cursor).collect(),
            undecodable: self.undecodable,
            ..Holds::default()
        };
        for (first, end) in &self.lost {
            report.fault(format!("{} not to be found", numbers(*first, *end)));
        }
    }

    fn steps(&self) -> Vec<String> {
        let mut steps = vec![
            "keep the database as it is aside, with the high-water file".to_owned(),
            "carry over what is whole, and begin a new database with it".to_owned(),
        ];
        if let Some(survey) = &self.case.survey {
            steps.push(format!("leave out {} entries that are not whole", survey.bad.len()));
        } else {
            let (low, dead) = (self.low(), self.case.pieces.dead());
            steps.push(format!(
                "deliver the events from number {low} on (again) to every handler, and what waited \
                 for a retry; leave out {dead} dead letters, old ones among them: it is not known \
                 whose they are"
            ));
        }
        if self.put_back > 0 {
            let found = self.put_back;
            steps.push(format!("put back {found} events that only the files still have"));
        }
        for (first, end) in &self.lost {
            steps.push(format!("note that {} lost", numbers(*first, *end)));
        }
        if self.is_new_key {
            let words = "forget the identities: an event that is sent again is stored again";
            steps.push(words.to_owned());
        }
        steps
    }
}
