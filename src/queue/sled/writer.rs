//! The one thread that writes: it takes what waits, commits it with one sync, and answers then.
//!
//! Owns the order of things: nothing is answered or made known before it is synced, and after an
//! error nothing is flushed again; the database is dropped and opened anew instead.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::mpsc, time::Instant};

use super::{
    OpenError,
    database::Db,
    dedup::Dedup,
    disk::{self, Place},
    error::full,
    forget::forget,
    gather::gather,
    group::Group,
    journal::Journal,
    keys,
    load::{identity, load},
    long,
    mark::{Mark, MarkFile},
    op::{Answer, Op},
    reader::Shared,
    room::Room,
};
use crate::queue::{Health, QueueError};

/// A commit is not made larger than this by what waits.
const GROUP_LEN: usize = 256;
const GROUP_BYTES: usize = 256 * 1024;
/// Settled marks are written down this often.
const UPKEEP: Duration = Duration::from_millis(150);
/// At the latest then the writer looks whether something has become old.
const IDLE: Duration = Duration::from_secs(1);
/// So many settled marks are written down at once.
pub(super) const MANY: usize = 1000;

/// An entry to write: a key, and its value or its end.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);
pub(super) type Entries = Vec<Entry>;

/// The writer's own things.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) dedup: Dedup,
    place: Place,
    pub(super) db: Option<Db>,
    pub(super) journal: Option<Journal>,
    pub(super) mailbox: mpsc::Receiver<Op>,
    /// An operator's call that waits for a commit of its own.
    pub(super) held: Option<Op>,
    pub(super) runtime: Runtime,
    upkept: Instant,
    /// There is more to tidy up than one commit takes.
    pub(super) more: bool,
    /// There are parts of long values in the store, or were since it was opened.
    any_parts: bool,
    pub(super) room: Room,
    pub(super) mark: MarkFile,
    pub(super) store: [u8; 16],
    /// Calls shared the last commit.
    crowded: bool,
    /// To be said when all is let go.
    farewell: Option<(Answer<()>, Result<(), QueueError>)>,
}

/// Why the writer stops writing.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<sled::Error> for Broken {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

enum Next {
    Op(Op),
    Upkeep,
    End,
}

impl Writer {
    /// Opens the store and starts the thread.
    pub(super) fn start(shared: Arc<Shared>, mailbox: mpsc::Receiver<Op>) -> Result<(), OpenError> {
        let place = Place::claim(&shared.options.directory)?;
        let mark = MarkFile::open(place.directory())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut writer = Self {
            dedup: Dedup::new(&[0; 32]),
            place,
            db: None,
            journal: None,
            mailbox,
            held: None,
            runtime,
            upkept: Instant::now(),
            more: false,
            any_parts: false,
            room: Room::of(&shared.options.directory, shared.options.max_bytes),
            mark,
            store: [0; 16],
            crowded: false,
            farewell: None,
            shared,
        };
        let limit = writer.place.patience();
        let (opened, hear) = std::sync::mpsc::sync_channel(1);
        // On its own thread, because sled can hang on files that are damaged, or for want of files.
        thread::Builder::new().name("store-writer".into()).spawn(move || {
            let result = writer.reopen();
            let good = result.is_ok();
            if good {
                // Nobody waits any more if it took too long: then it is let go again.
                if opened.send(result).is_ok() {
                    writer.run();
                }
            } else {
                // The directory is free before anyone hears that it could not be opened.
                drop(writer);
                drop(opened.send(result));
            }
        })?;
        hear.recv_timeout(limit).unwrap_or(Err(OpenError::Stuck(limit.as_secs())))
    }

    /// Opens the database and reads what is in it. Panics of sled become errors.
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        catch_unwind(AssertUnwindSafe(|| self.open())).unwrap_or_else(|panic| {
            Err(OpenError::Damaged(format!("sled panicked: {}", disk::words(&*panic))))
        })
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let db = self.place.open()?;
        let store = identity(&db)?.store;
        self.journal = Some(Journal::open(self.place.directory(), &db, store)?);
        disk::prove(&db)?;
        let now = self.shared.clock.now();
        let mut loaded = load(&db, &self.shared.options, now, self.shared.read_whole)?;
        self.store = loaded.identity.store;
        self.mark.check(&Mark::of(&loaded, &db)?)?;
        self.any_parts = db.range(keys::all(keys::PARTS)).next().is_some();
        self.db = Some(db.clone());
        let forgotten = forget(&mut loaded, &self.shared.options, now);
        self.commit(forgotten).map_err(unopened)?;
        self.shared.state().install(&mut loaded, &self.shared.options, now);
        self.dedup = loaded.dedup;
        self.shared.broken.store(false, Ordering::Relaxed);
        self.shared.set_db(Some(db));
        self.upkeep().map_err(unopened)?;
        self.shared.state().health = Health::Writable;
        self.shared.metrics.store_writable.set(1);
        Ok(())
    }

    fn run(mut self) {
        self.serve();
        let farewell = self.farewell.take();
        // The directory is free before anyone hears that the store is closed. Calls that still
        // wait in the mailbox see that it is gone.
        drop(self);
        if let Some((answer, result)) = farewell {
            drop(answer.send(result));
        }
    }

    fn serve(&mut self) {
        loop {
            let result = match self.next() {
                Next::Op(op) => self.group(op),
                Next::Upkeep => self.upkeep(),
                Next::End => self.end(),
            };
            if self.shared.state().closed {
                return;
            }
            match result {
                Ok(()) if self.shared.broken.load(Ordering::Relaxed) => self.fail("a read failed"),
                Ok(()) => continue,
                Err(Broken(why)) => self.fail(&why),
            }
            if self.heal() {
                return;
            }
        }
    }

    fn next(&mut self) -> Next {
        loop {
            if self.shared.broken.load(Ordering::Relaxed) {
                return Next::Upkeep;
            }
            if let Some(op) = self.held.take() {
                return Next::Op(op);
            }
            let unwritten = self.shared.state().unwritten();
            let due = self.upkept + if unwritten == 0 { IDLE } else { UPKEEP };
            if self.more || unwritten >= MANY || Instant::now() >= due {
                return Next::Upkeep;
            }
            if let Some(next) = self.wait(due) {
                return next;
            }
        }
    }

    /// The next call, or none when there may be something else to do.
    fn wait(&mut self, until: Instant) -> Option<Next> {
        let (mailbox, shared) = (&mut self.mailbox, &self.shared);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                op = mailbox.recv() => Some(op.map_or(Next::End, Next::Op)),
                () = shared.wake_writer.notified() => None,
                () = tokio::time::sleep_until(until) => None,
            }
        })
    }

    /// Commits this call and what else waits, and closes if one of them says so.
    fn group(&mut self, first: Op) -> Result<(), Broken> {
        let db = match self.expire().and_then(|()| self.db().cloned()) {
            Ok(db) => db,
            Err(broken) => {
                first.refuse(QueueError::Unavailable(broken.0.clone()));
                return Err(broken);
            }
        };
        // A sender alone never waits: the writer gives way only when calls came together.
        if self.crowded || !self.mailbox.is_empty() {
            gather(GROUP_LEN, || self.mailbox.len());
        }
        let mut group = Group::new(&self.shared);
        let mut closing = None;
        let mut next = Some(first);
        while let Some(op) = next.take() {
            let alone = matches!(op, Op::Operate(_));
            if alone && group.len() > 0 {
                self.held = Some(op);
                break;
            }
            match op {
                Op::Close { answer } => {
                    closing = Some(answer);
                    break;
                }
                Op::Append { .. } | Op::BuryRaw { .. } => self.admit(&mut group, op),
                Op::Settle { receipt, verdict, answer } => {
                    group.settle(&self.shared, receipt, verdict, answer);
                }
                Op::Operate(order) => group.operate(&self.shared, &db, order),
            }
            if !alone && group.len() < GROUP_LEN && group.bytes < GROUP_BYTES {
                next = self.mailbox.try_recv().ok();
            }
        }
        self.crowded = group.answers.len() > 1;
        let written = self.write(group);
        if let Some(answer) = closing {
            let result = written.and_then(|()| self.end());
            self.leave();
            let result = result.map_err(|Broken(why)| QueueError::Unavailable(why));
            self.farewell = Some((answer, result));
            return Ok(());
        }
        written
    }

    /// What needs room goes in only while there is some.
    fn admit(&mut self, group: &mut Group, op: Op) {
        if let Err(error) = self.room.look(&self.shared) {
            op.refuse(error);
            return;
        }
        match op {
            Op::Append { arrivals, bookmark, answer, room } => {
                group.append(&self.dedup, arrivals, bookmark, answer);
                drop(room);
            }
            Op::BuryRaw { push, failure, answer, room } => {
                group.bury_raw(push, failure, answer);
                drop(room);
            }
            Op::Settle { .. } | Op::Operate(_) | Op::Close { .. } => {}
        }
    }

    fn write(&mut self, group: Group) -> Result<(), Broken> {
        let (entries, mut written) = group.seal(&self.dedup);
        if let Err(broken) = self.commit(entries) {
            written.refuse(&QueueError::Unavailable(broken.0.clone()));
            return Err(broken);
        }
        for (head, bytes) in mem::take(&mut written.heads) {
            self.dedup.remember(head, bytes);
        }
        let wants_room = self.journal.as_mut().is_some_and(Journal::wants_room);
        self.more |= wants_room || self.dedup.unpacked.is_due(self.bounds());
        self.dedup.hooks.append(&mut written.hooks);
        written.make_known(&self.shared, self.dedup.known.len());
        self.gauge();
        Ok(())
    }

    /// Writes and syncs. On an error it is not known what is on disk.
    pub(super) fn commit(&mut self, entries: Entries) -> Result<(), Broken> {
        let (Some(db), Some(journal)) = (&self.db, &mut self.journal) else {
            return Err(Broken("it is not open".into()));
        };
        if entries.is_empty() {
            return Ok(());
        }
        self.mark.unnoted = true;
        let began = Instant::now();
        let any_parts = &mut self.any_parts;
        let write = || journal.commit(db, long::expand(db, entries, any_parts)?);
        let watched = self.shared.watchdog.watch();
        let written = catch_unwind(AssertUnwindSafe(write));
        drop(watched);
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.room.disk_full |= matches!(&error, sled::Error::Io(error) if full(error));
                return Err(error.into());
            }
            Err(panic) => return Err(Broken(format!("sled panicked: {}", disk::words(&*panic)))),
        }
        self.shared.metrics.commits.inc();
        self.shared.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// After this the database alone is all of the store.
    fn clear_journal(&mut self) -> Result<(), Broken> {
        let watched = self.shared.watchdog.watch();
        if let (Some(db), Some(journal)) = (&self.db, &mut self.journal) {
            journal.clear(db)?;
        }
        drop(watched);
        Ok(())
    }

    /// The database, to read from.
    pub(super) fn db(&self) -> Result<&Db, Broken> {
        self.db.as_ref().ok_or_else(|| Broken("it is not open".into()))
    }

    /// Everything that has become due for writing or deleting.
    fn upkeep(&mut self) -> Result<(), Broken> {
        self.upkept = Instant::now();
        self.more = false;
        self.expire()?;
        self.tidy()?;
        self.gauge();
        self.note(false)?;
        self.journal.as_mut().map_or(Ok(()), Journal::tend).map_err(Broken::from)
    }

    fn gauge(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let state = self.shared.state();
        self.shared.metrics.queue_bytes.set(gauge(state.live_bytes));
        self.shared.metrics.dedup_ids.set(gauge(state.dedup_ids));
        self.shared.metrics.queue_events.set(gauge(state.next.saturating_sub(state.oldest)));
    }

    /// Writes down what is settled and lets go of the database.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        self.mailbox.close();
        let result = loop {
            match self.upkeep() {
                Ok(()) if self.more => {}
                result => break result.and_then(|()| self.note(true)),
            }
        };
        let result = result.and_then(|()| self.clear_journal());
        self.leave();
        if let Err(Broken(why)) = &result {
            tracing::warn!(%why, "the store could not write down its last settled deliveries");
        }
        result
    }
}

fn unopened(Broken(why): Broken) -> OpenError {
    OpenError::Io(io::Error::other(why))
}
