//! Gives sled what was committed, while the writer goes on.

use std::{
    io,
    thread::{self, JoinHandle},
};

use crate::queue::sled::database::Db;

/// How far the journal had come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Bytes of commits since it was opened.
    pub(super) written: u64,
    /// The half that they are in, or in a later one.
    pub(super) generation: u64,
}

/// One hand-over at a time.
#[derive(Debug)]
pub(super) struct Flusher {
    db: Db,
    /// Everything up to here is what sled gets next.
    frozen: Option<Point>,
    under_way: Option<JoinHandle<sled::Result<()>>>,
    /// Up to here sled has made all durable, and has noted the half.
    durable: Point,
}

impl Flusher {
    /// Sled has all that was written before.
    pub(super) fn new(db: Db) -> Self {
        let durable = Point { written: 0, generation: 0 };
        Self { db, frozen: None, under_way: None, durable }
    }

    /// Sled has noted this half by itself: there was nothing left to hand over.
    pub(super) fn noted(&mut self, generation: u64) {
        self.durable.generation = generation;
    }

    /// Hears of a hand-over that has ended.
    pub(super) fn look(&mut self) -> sled::Result<()> {
        let ended = self.under_way.as_ref().is_some_and(JoinHandle::is_finished);
        if ended { self.join() } else { Ok(()) }
    }

    /// Up to here sled has everything, or gets it next.
    pub(super) fn reaches(&self) -> Point {
        self.frozen.unwrap_or(self.durable)
    }

    /// All that was committed, which is what was written up to now, is what sled gets next; unless
    /// there is something already that it is to get.
    pub(super) fn freeze(&mut self, now: Point) {
        if self.frozen.is_none() {
            self.db.freeze();
            self.frozen = Some(now);
        }
    }

    /// Begins to give sled what was frozen, if it was not begun.
    ///
    /// On a thread of its own each time: a large buffer that sled is done with is freed when the
    /// thread that let go of it has let go of many more things, or ends.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if let (Some(Point { generation, .. }), None) = (self.frozen, &self.under_way) {
            let db = self.db.clone();
            let thread = thread::Builder::new().name("store-flush".into());
            self.under_way = Some(thread.spawn(move || db.hand_over(generation))?);
        }
        Ok(())
    }

    /// Waits until sled has made enough durable.
    pub(super) fn wait(&mut self, now: Point, enough: impl Fn(Point) -> bool) -> sled::Result<()> {
        while !enough(self.durable) {
            self.freeze(now);
            self.begin()?;
            self.join()?;
        }
        Ok(())
    }

    fn join(&mut self) -> sled::Result<()> {
        if let Some(given) = self.under_way.take() {
            given
                .join()
                .map_err(|_| io::Error::other("sled panicked as it was given commits"))??;
            self.durable = self.frozen.take().unwrap_or(self.durable);
        }
        Ok(())
    }
}
