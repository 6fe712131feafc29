//! Gives sled what was committed, while the writer goes on.
//!
//! Owns when a memtable is frozen and when sled gets it. The way there is the memtable's, and what
//! makes it durable there is the trees'.

use std::thread::{self, JoinHandle};

use super::{
    disk::{Class, words},
    error::Error,
    trees::Position,
    view::View,
    wal::Point,
};

/// Bytes of commits in a memtable when it is frozen. sled gets it when half as many have come after
/// it: by then most of it is deleted again. Twice as many are in memory at most.
const MEMTABLE: u64 = 4 * 1024 * 1024;
/// Bytes in the active memtable at which passed entries are deleted: before sled gets the frozen one,
/// and before this one is frozen.
const TIDY: [u64; 2] = [MEMTABLE / 8 * 3, MEMTABLE / 8 * 7];
/// Bytes that sled's file can grow by while it gets a memtable and the next one fills.
pub(crate) const GROWTH: u64 = 8 * MEMTABLE;

/// One checkpoint at a time.
#[derive(Debug)]
pub(super) struct Checkpointer {
    view: View,
    /// Everything up to here is in the frozen memtable.
    frozen: Option<Point>,
    under_way: Option<JoinHandle<Result<(), Error>>>,
    /// Up to here sled has made all durable, and has noted that.
    durable: Point,
    /// How often [`Self::wants_tidy`] was true of the active memtable.
    told: usize,
}

impl Checkpointer {
    /// Of a store that has `durable` in sled, and all since then in its memtable.
    pub(super) fn new(view: View, durable: Position) -> Self {
        let durable = Point { written: 0, position: durable };
        Self { view, frozen: None, under_way: None, durable, told: 0 }
    }

    /// Before a commit: begins what is due. If sled is slow, the commit waits for it here.
    pub(super) fn make_way(&mut self, now: Point) -> Result<(), Error> {
        self.hear()?;
        if self.active(now) >= MEMTABLE {
            let before = self.reaches().written;
            self.wait(now, |durable| durable.written >= before)?;
            self.freeze(now);
        }
        if self.active(now) >= MEMTABLE / 2 {
            self.begin()?;
        }
        Ok(())
    }

    /// Hears of a checkpoint that has ended.
    pub(super) fn hear(&mut self) -> Result<(), Error> {
        let has_ended = self.under_way.as_ref().is_some_and(JoinHandle::is_finished);
        if has_ended { self.join() } else { Ok(()) }
    }

    /// Whether it is time to delete what is of no more use. True twice for each memtable.
    pub(super) fn wants_tidy(&mut self, now: Point) -> bool {
        let before = self.told;
        self.told = TIDY.iter().filter(|bytes| self.active(now) >= **bytes).count();
        self.told > before
    }

    /// Waits until sled has made enough durable.
    pub(super) fn wait(&mut self, now: Point, enough: impl Fn(Point) -> bool) -> Result<(), Error> {
        while !enough(self.durable) {
            self.freeze(now);
            self.begin()?;
            self.join()?;
        }
        Ok(())
    }

    /// Bytes of commits in the active memtable.
    fn active(&self, now: Point) -> u64 {
        now.written - self.reaches().written
    }

    /// Up to here sled has everything, or gets it next.
    fn reaches(&self) -> Point {
        self.frozen.unwrap_or(self.durable)
    }

    /// All that was committed is what sled gets next, unless a frozen memtable is there.
    fn freeze(&mut self, now: Point) {
        if self.frozen.is_none() {
            self.view.memtable.freeze();
            self.frozen = Some(now);
        }
    }

    /// Begins to give sled the frozen memtable, if that was not begun.
    ///
    /// On a thread of its own each time: a large buffer that sled is done with is freed when the
    /// thread that let go of it has let go of many more things, or ends.
    fn begin(&mut self) -> Result<(), Error> {
        if let (Some(Point { position, .. }), None) = (self.frozen, &self.under_way) {
            let View { trees, memtable } = self.view.clone();
            let thread = thread::Builder::new().name("store-checkpoint".into());
            let hand_over = move || memtable.hand_over(&trees, || trees.set_checkpoint(position));
            self.under_way = Some(thread.spawn(hand_over)?);
        }
        Ok(())
    }

    /// Waits for the checkpoint that is under way, if one is.
    pub(super) fn join(&mut self) -> Result<(), Error> {
        if let Some(checkpoint) = self.under_way.take() {
            // The writer waits for the disk here, too.
            self.view.trees.disk.call(Class::Checkpoint, || {
                checkpoint.join().unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))))
            })?;
            self.durable = self.frozen.take().unwrap_or(self.durable);
        }
        Ok(())
    }
}
