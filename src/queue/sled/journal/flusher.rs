//! Gives sled what was committed, while the writer goes on.

use std::{
    io,
    thread::{self, JoinHandle},
};

use crate::queue::sled::database::Db;

/// One hand-over at a time. What is counted are the journal's bytes.
#[derive(Debug)]
pub(super) struct Flusher {
    db: Db,
    /// Everything up to here is what sled gets next.
    frozen: Option<u64>,
    under_way: Option<JoinHandle<sled::Result<()>>>,
    /// Up to here sled has made all durable.
    durable: u64,
}

impl Flusher {
    pub(super) fn new(db: Db) -> Self {
        Self { db, frozen: None, under_way: None, durable: 0 }
    }

    /// Hears of a hand-over that has ended.
    pub(super) fn look(&mut self) -> sled::Result<()> {
        let ended = self.under_way.as_ref().is_some_and(JoinHandle::is_finished);
        if ended { self.join() } else { Ok(()) }
    }

    /// Whether some of what was written up to here is not what sled gets next, nor has got.
    pub(super) fn lacks(&self, until: u64) -> bool {
        self.frozen.unwrap_or(self.durable) < until
    }

    /// All that was committed, which is what was written up to here, is what sled gets next; unless
    /// there is something already that it is to get.
    pub(super) fn freeze(&mut self, written: u64) {
        if self.frozen.is_none() {
            self.db.freeze();
            self.frozen = Some(written);
        }
    }

    /// Begins to give sled what was frozen, if it was not begun, and the number of the journal's half.
    ///
    /// On a thread of its own each time: a buffer of 8 MiB that sled is done with is freed when the
    /// thread that let go of it has let go of many more things, or ends.
    pub(super) fn begin(&mut self, generation: u64) -> io::Result<()> {
        if self.frozen.is_some() && self.under_way.is_none() {
            let db = self.db.clone();
            let thread = thread::Builder::new().name("store-flush".into());
            self.under_way = Some(thread.spawn(move || db.hand_over(generation))?);
        }
        Ok(())
    }

    /// Waits until sled has made durable everything up to `until`, which was committed.
    pub(super) fn wait(&mut self, until: u64, generation: u64) -> sled::Result<()> {
        while self.durable < until {
            self.freeze(until);
            self.begin(generation)?;
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
