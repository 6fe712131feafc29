//! The waiting retries of one handler, in memory.
//!
//! On disk a retry stands under the time when it is due by the wall clock. Here it waits for steady
//! time: a wall clock that is set does not hold it up, or send it early.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// When it is due by the wall clock, in milliseconds: a part of its key on disk.
    pub(crate) due: u64,
    /// When it is due in steady time.
    pub(crate) ready: Duration,
    /// Bytes that it takes on disk.
    pub(crate) bytes: u64,
}

/// The retries of one handler.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// All of them, by the number of their event.
    by_seq: BTreeMap<u64, Retry>,
    /// Those that are not in flight: when they are ready; where a start found several overdue, when they
    /// were due by the wall clock; number.
    by_ready: BTreeSet<(Duration, u64, u64)>,
    bytes: u64,
}

impl Retries {
    /// It waits, in the place of another one of the same event.
    pub(crate) fn insert(&mut self, seq: u64, retry: Retry) {
        self.remove(seq);
        self.bytes += retry.bytes;
        self.by_seq.insert(seq, retry);
        self.by_ready.insert((retry.ready, retry.due, seq));
    }

    /// It neither waits nor is in flight any more.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Retry> {
        let retry = self.by_seq.remove(&seq)?;
        self.by_ready.remove(&(retry.ready, retry.due, seq));
        self.bytes -= retry.bytes;
        Some(retry)
    }

    /// It is in flight: not to be given out again.
    pub(crate) fn lease(&mut self, seq: u64) {
        if let Some(retry) = self.by_seq.get(&seq) {
            self.by_ready.remove(&(retry.ready, retry.due, seq));
        }
    }

    /// It came back unsettled. False if there is no such retry.
    pub(crate) fn give_back(&mut self, seq: u64) -> bool {
        let Some(retry) = self.by_seq.get(&seq) else { return false };
        self.by_ready.insert((retry.ready, retry.due, seq));
        true
    }

    /// The next one that waits, and its number.
    pub(crate) fn next(&self) -> Option<(u64, Retry)> {
        let (.., seq) = *self.by_ready.first()?;
        Some((seq, *self.by_seq.get(&seq)?))
    }

    /// When it is due by the wall clock, if it waits or is in flight as a retry.
    pub(crate) fn due(&self, seq: u64) -> Option<u64> {
        self.by_seq.get(&seq).map(|retry| retry.due)
    }

    /// Numbers and due times of all of them, in the order of their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_seq.iter().map(|(seq, retry)| (*seq, retry.due))
    }

    /// The number of those that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.by_ready.len()
    }

    /// The number of those in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.by_seq.len() - self.by_ready.len()
    }

    /// Bytes that they take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
