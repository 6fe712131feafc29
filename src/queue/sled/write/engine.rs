//! The store as the writer has it: opening it, committing to it, and letting go of it.
//!
//! Owns the order of things: nothing is made known before it is durable, and after an error nothing
//! is written again; the store is closed and opened anew instead.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    admission::{Admission, is_worth_compacting},
    commit::Commit,
    high_water::{HighWater, HighWaterFile},
};
use crate::{
    clock::Timestamp,
    queue::{
        QueueError,
        sled::{codec::Value, dedup::Dedup, keys, load, shared::Shared},
    },
    store::{
        Batch, Class, Directory, Error, Store, View, inspect,
        room::{self, GROWTH},
    },
};

/// The writer's own things.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) dedup: Dedup,
    pub(crate) directory: Directory,
    store: Option<Store>,
    pub(crate) admission: Admission,
    high_water: HighWaterFile,
    /// There is more to tidy up than one commit takes.
    pub(crate) more: bool,
    /// sled gets something soon: what is of no more use goes before that.
    pub(crate) tidy_due: bool,
    /// The last failure was for want of room.
    disk_full: bool,
    /// The last time that the clock was vouched for.
    vouched: Timestamp,
    /// Before this moment no compaction is tried, after one that failed; and the pause until then.
    compaction: (Instant, Duration),
}

/// Between compactions that fail.
const COMPACT_AGAIN: Duration = Duration::from_secs(5);
const COMPACT_AGAIN_MAX: Duration = Duration::from_secs(3600);

impl Engine {
    /// Claims the directory. Nothing is opened yet.
    pub(crate) fn claim(shared: Arc<Shared>) -> Result<Self, Error> {
        let options = &shared.options;
        let directory = Directory::claim(&options.directory)?;
        let high_water = HighWaterFile::open(directory.path(), &shared.disk)?;
        let admission = Admission::of(&directory, options.max_bytes, &shared.disk);
        Ok(Self {
            dedup: Dedup::new(&[0; 32]),
            directory,
            store: None,
            admission,
            high_water,
            more: false,
            tidy_due: false,
            disk_full: false,
            vouched: shared.clock.now(),
            compaction: (Instant::now(), Duration::ZERO),
            shared,
        })
    }

    /// Opens the store and reads what is in it.
    pub(crate) fn open(&mut self) -> Result<(), Error> {
        let disk = self.shared.disk.clone();
        self.admission.before_opening(&self.shared, std::mem::take(&mut self.disk_full));
        disk.call(Class::Open, || {
            self.directory.next().remove()?;
            inspect::clear(self.directory.path())
        })?;
        let files = self.directory.store();
        let open = || Store::open(&files, keys::LAYOUT, &disk);
        let opened = match open() {
            // Our share can be full while the disk is not.
            Err(error) if error.is_full() && self.admission.give_way() => open(),
            opened => opened,
        };
        self.store = Some(opened?);
        self.install().inspect_err(|error| {
            self.disk_full |= error.is_full();
        })
    }

    fn install(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let store = self.store()?;
        let (view, id) = (store.view().clone(), store.id());
        let load::Loaded { contents, dedup, new_key } =
            load::load(&view, &shared.options, shared.read_whole)?;
        let (next, count) = (contents.bounds.next, noted(&view)?);
        let now = HighWater { store: id, next, low: 0, count, at: shared.clock.now() };
        if let Some(before) = self.high_water.check(&now)? {
            shared.clock.seen(before);
            self.vouched = before;
        }
        if let Some(key) = new_key {
            let mut batch = Batch::new();
            batch.put(keys::DEDUP, key);
            self.store()?.commit(batch)?;
        }
        self.dedup = dedup;
        {
            let mut state = shared.state();
            state.install(contents, &shared.options, &shared.clock);
            (state.damaged, state.broken) = (None, false);
        }
        self.gauge();
        shared.metrics.store_damaged.set(0);
        shared.set_view(Some(view));
        Ok(())
    }

    /// The store works: calls are taken.
    pub(crate) fn ready(&mut self) {
        self.shared.state().failing = None;
        self.shared.metrics.store_writable.set(1);
    }

    fn store(&mut self) -> Result<&mut Store, Error> {
        self.store.as_mut().ok_or_else(closed)
    }

    /// The store, to read from.
    pub(crate) fn view(&self) -> Result<&View, Error> {
        self.store.as_ref().map(Store::view).ok_or_else(closed)
    }

    /// Makes a batch durable. After an error it is not known what is on disk.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let store = self.store.as_mut().ok_or_else(closed)?;
        self.high_water.unnoted = true;
        let began = Instant::now();
        if let Err(error) = store.commit(batch) {
            self.disk_full |= error.is_full();
            // Before anyone is refused: who asks how the store is must not hear that it works.
            self.shared.state().failing = Some(error.to_string());
            return Err(error);
        }
        self.tidy_due |= store.wants_tidy();
        self.shared.metrics.commits.inc();
        self.shared.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Commits what was put together, makes it known, and answers.
    pub(super) fn write(&mut self, mut commit: Commit) -> Result<(), Error> {
        let batch = commit.seal(&self.dedup);
        if let Err(error) = self.commit(batch) {
            commit.refuse(&QueueError::Unavailable(error.to_string()));
            return Err(error);
        }
        commit.make_known(&self.shared, &mut self.dedup);
        self.gauge();
        Ok(())
    }

    /// Hears whether sled took what it was given.
    pub(crate) fn tend(&mut self) -> Result<(), Error> {
        self.store()?.tend()
    }

    /// Has sled make durable all that was committed.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Error> {
        self.store()?.checkpoint()
    }

    /// Looks whether events may come in.
    pub(crate) fn look_for_room(&mut self) {
        self.admission.look(&self.shared);
    }

    /// Says outside of the store how far it is: at most once a second, or if it must.
    pub(crate) fn note(&mut self, must: bool) -> Result<(), Error> {
        let store = self.store()?.id();
        let (next, low) = {
            let state = self.shared.state();
            (state.next, state.settled_by_all())
        };
        if !self.high_water.is_due(next, low, must) {
            return Ok(());
        }
        let count = noted(self.view()?)?.saturating_add(1);
        let mut batch = Batch::new();
        batch.put(keys::NOTED, count.encode());
        self.commit(batch)?;
        // A wrong time must not become a good one by a restart.
        self.vouched = self.shared.clock.vouched_now().unwrap_or(self.vouched);
        self.high_water.write(HighWater { store, next, low, count, at: self.vouched })
    }

    /// Writes sled's file anew if it is far larger than what it holds, and there is room for both.
    pub(crate) fn compact(&mut self) -> Result<(), Error> {
        let held = {
            let state = self.shared.state();
            state.live_bytes().saturating_add(state.dedup_ids * 16)
        };
        let file = self.admission.database_len();
        if Instant::now() < self.compaction.0 || !is_worth_compacting(file, held) {
            return Ok(());
        }
        let free = room::free(self.directory.path(), &self.shared.disk);
        if free < held.saturating_mul(3).saturating_add(GROWTH) {
            return Ok(());
        }
        self.checkpoint()?;
        let next = self.directory.next();
        // Until it has succeeded.
        let pause = (self.compaction.1 * 2).clamp(COMPACT_AGAIN, COMPACT_AGAIN_MAX);
        self.compaction = (Instant::now() + pause, pause);
        if let Err(error) = self.store()?.copy_to(&next) {
            // The store itself is as it was. What there is of the copy takes room.
            tracing::warn!(%error, "cannot give room in the database's file back");
            return next.remove();
        }
        self.let_go();
        self.shared.disk.call(Class::Room, || self.directory.swap(&next))?;
        self.open()?;
        self.compaction = (Instant::now(), Duration::ZERO);
        let now = self.admission.database_len();
        tracing::info!(before = file, now, "gave room in the database's file back");
        Ok(())
    }

    /// Says how much is in it.
    pub(crate) fn gauge(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut state = self.shared.state();
        state.dedup_ids = u64::try_from(self.dedup.known.len()).unwrap_or(u64::MAX);
        self.shared.metrics.queue_bytes.set(gauge(state.live_bytes()));
        self.shared.metrics.dedup_ids.set(gauge(state.dedup_ids));
        self.shared.metrics.queue_events.set(gauge(state.next.saturating_sub(state.oldest)));
    }

    /// From here on nothing is written until the store was opened anew.
    pub(crate) fn fail(&mut self, why: &str) {
        tracing::error!(%why, "the store does not work; it is being reopened");
        self.shared.state().failing = Some(why.to_owned());
        self.shared.metrics.store_writable.set(0);
        // What the system has in memory of its files may not be on the disk.
        self.directory.store().distrust_cache();
        self.let_go();
    }

    /// Closes the store; waits for reads under way.
    pub(crate) fn let_go(&mut self) {
        self.shared.set_view(None);
        if let Some(Err(error)) = self.store.take().map(Store::close) {
            tracing::warn!(%error, "the store did not close well");
        }
        // Another process may open it next.
        self.directory.store().distrust_what_failed();
    }
}

fn closed() -> Error {
    Error::other("it is not open")
}

/// Raised with each writing of the high-water file.
fn noted(view: &View) -> Result<u64, Error> {
    let number = view.get(keys::NOTED)?.map_or(Ok(0), |value| u64::decode(&value));
    number.map_err(|error| Error::malformed("m|noted", error))
}
