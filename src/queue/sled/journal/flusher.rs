//! The thread that has sled make durable what it was given, while the writer goes on.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
};

use sled::Db;

/// One flush at a time. What is counted are the journal's bytes.
#[derive(Debug)]
pub(super) struct Flusher {
    ask: SyncSender<u64>,
    hear: Receiver<(u64, sled::Result<usize>)>,
    /// A flush of everything up to here is under way.
    asked: Option<u64>,
    /// Up to here all is durable.
    durable: u64,
}

impl Flusher {
    /// Starts the thread; it ends with the last flush after this is dropped.
    pub(super) fn start(db: Db) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let (tell, hear) = sync_channel(1);
        thread::Builder::new().name("store-flush".into()).spawn(move || {
            while let Ok(until) = asked.recv() {
                if tell.send((until, db.flush())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, hear, asked: None, durable: 0 })
    }

    /// Bytes up to `written` that no flush was begun for. Hears of one that has ended.
    pub(super) fn behind(&mut self, written: u64) -> sled::Result<u64> {
        match self.hear.try_recv() {
            Ok(ended) => self.ended(ended)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(panicked()),
        }
        Ok(written.saturating_sub(self.asked.unwrap_or(self.durable)))
    }

    /// Begins to flush what was applied so far, unless a flush is under way.
    pub(super) fn begin(&mut self, written: u64) -> sled::Result<()> {
        if self.asked.is_none() {
            self.ask.send(written).map_err(|_| panicked())?;
            self.asked = Some(written);
        }
        Ok(())
    }

    /// Waits until everything up to `until` is durable.
    pub(super) fn wait(&mut self, until: u64) -> sled::Result<()> {
        while self.durable < until {
            self.begin(until)?;
            let ended = self.hear.recv().map_err(|_| panicked())?;
            self.ended(ended)?;
        }
        Ok(())
    }

    fn ended(&mut self, (until, result): (u64, sled::Result<usize>)) -> sled::Result<()> {
        result?;
        (self.asked, self.durable) = (None, until);
        Ok(())
    }
}

fn panicked() -> sled::Error {
    sled::Error::Io(io::Error::other("sled panicked as it flushed"))
}
