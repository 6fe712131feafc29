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
    /// Everything up to here is being handed over.
    under_way: Option<(u64, JoinHandle<sled::Result<()>>)>,
    /// Up to here sled has made all durable.
    durable: u64,
}

impl Flusher {
    pub(super) fn new(db: Db) -> Self {
        Self { db, under_way: None, durable: 0 }
    }

    /// Whether some of what was written up to here is neither with sled nor on its way. Hears of a
    /// hand-over that has ended.
    pub(super) fn lacks(&mut self, until: u64) -> sled::Result<bool> {
        if self.under_way.as_ref().is_some_and(|(_, given)| given.is_finished()) {
            self.join()?;
        }
        let begun = self.under_way.as_ref().map_or(self.durable, |(until, _)| *until);
        Ok(begun < until)
    }

    /// Begins to hand over all that was committed, which is what was written up to here; unless a
    /// hand-over is under way.
    ///
    /// On a thread of its own each time: a buffer of 8 MiB that sled is done with is freed when the
    /// thread that let go of it has let go of many more things, or ends.
    pub(super) fn begin(&mut self, written: u64) -> io::Result<()> {
        if self.under_way.is_none() {
            let db = self.db.clone();
            db.freeze();
            let thread = thread::Builder::new().name("store-flush".into());
            self.under_way = Some((written, thread.spawn(move || db.hand_over())?));
        }
        Ok(())
    }

    /// Waits until sled has made durable everything up to `until`, which was committed.
    pub(super) fn wait(&mut self, until: u64) -> sled::Result<()> {
        while self.durable < until {
            self.begin(until)?;
            self.join()?;
        }
        Ok(())
    }

    fn join(&mut self) -> sled::Result<()> {
        if let Some((until, given)) = self.under_way.take() {
            given
                .join()
                .map_err(|_| io::Error::other("sled panicked as it was given commits"))??;
            self.durable = until;
        }
        Ok(())
    }
}
