//! Has sled make durable what it was given, while the writer goes on.

use std::{
    io,
    thread::{self, JoinHandle},
};

use crate::queue::sled::database::Db;

/// One flush at a time. What is counted are the journal's bytes.
#[derive(Debug)]
pub(super) struct Flusher {
    db: Db,
    /// A flush of everything up to here is under way.
    under_way: Option<(u64, JoinHandle<sled::Result<usize>>)>,
    /// Up to here all is durable.
    durable: u64,
}

impl Flusher {
    pub(super) fn new(db: Db) -> Self {
        Self { db, under_way: None, durable: 0 }
    }

    /// Bytes up to `written` that no flush was begun for. Hears of one that has ended.
    pub(super) fn behind(&mut self, written: u64) -> sled::Result<u64> {
        if self.under_way.as_ref().is_some_and(|(_, flush)| flush.is_finished()) {
            self.join()?;
        }
        let begun = self.under_way.as_ref().map_or(self.durable, |(until, _)| *until);
        Ok(written.saturating_sub(begun))
    }

    /// Begins to flush what was applied so far, unless a flush is under way.
    ///
    /// On a thread of its own each time: a buffer of 8 MiB that sled is done with is freed when the
    /// thread that let go of it has let go of many more things, or ends.
    pub(super) fn begin(&mut self, written: u64) -> io::Result<()> {
        if self.under_way.is_none() {
            let db = self.db.clone();
            let thread = thread::Builder::new().name("store-flush".into());
            self.under_way = Some((written, thread.spawn(move || db.flush())?));
        }
        Ok(())
    }

    /// Waits until everything up to `until` is durable.
    pub(super) fn wait(&mut self, until: u64) -> sled::Result<()> {
        while self.durable < until {
            self.begin(until)?;
            self.join()?;
        }
        Ok(())
    }

    fn join(&mut self) -> sled::Result<()> {
        if let Some((until, flush)) = self.under_way.take() {
            flush.join().map_err(|_| io::Error::other("sled panicked as it flushed"))??;
            self.durable = until;
        }
        Ok(())
    }
}
