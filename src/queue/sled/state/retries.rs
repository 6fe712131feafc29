//! The waiting retries of one handler, in memory.
//!
//! On disk a retry stands under the time when it is due by the wall clock. What it waits for here is
//! steady time: a wall clock that is set does not hold it up, or send it early.

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

/// Those of one handler.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// Those that are not in flight: when they are ready, number.
    by_ready: BTreeSet<(Duration, u64)>,
    /// All of them, by number.
    by_seq: BTreeMap<u64, Retry>,
}

impl Retries {
    /// It waits.
    pub(crate) fn insert(&mut self, seq: u64, retry: Retry) {
        self.remove(seq);
        self.by_seq.insert(seq, retry);
        self.by_ready.insert((retry.ready, seq));
    }

    /// The bytes that it took.
    pub(crate) fn remove(&mut self, seq: u64) -> u64 {
        let Some(Retry { ready, bytes, .. }) = self.by_seq.remove(&seq) else { return 0 };
        self.by_ready.remove(&(ready, seq));
        bytes
    }

    /// It is in flight: not to be given out again.
    pub(crate) fn lease(&mut self, seq: u64) {
        if let Some(retry) = self.by_seq.get(&seq) {
            self.by_ready.remove(&(retry.ready, seq));
        }
    }

    /// It came back unsettled, if it is still the one that was due then.
    pub(crate) fn give_back(&mut self, seq: u64, due: u64) {
        if let Some(retry) = self.by_seq.get(&seq).filter(|retry| retry.due == due) {
            self.by_ready.insert((retry.ready, seq));
        }
    }

    /// The next one that waits: when it is ready, number, and when it is due by the wall clock.
    pub(crate) fn next(&self) -> Option<(Duration, u64, u64)> {
        let (ready, seq) = *self.by_ready.first()?;
        Some((ready, seq, self.by_seq.get(&seq)?.due))
    }

    /// When it is due by the wall clock, if it waits or is in flight as a retry.
    pub(crate) fn due(&self, seq: u64) -> Option<u64> {
        self.by_seq.get(&seq).map(|retry| retry.due)
    }

    /// Whether it waits, or is in flight as a retry.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.by_seq.contains_key(&seq)
    }

    /// All of them, by number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, Retry)> + '_ {
        self.by_seq.iter().map(|(seq, retry)| (*seq, *retry))
    }

    /// The number of those that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.by_ready.len()
    }

    /// The number of those in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.by_seq.len() - self.by_ready.len()
    }

    /// The oldest event among them, and when it is due by the wall clock.
    pub(crate) fn oldest(&self) -> Option<(u64, u64)> {
        self.by_seq.first_key_value().map(|(seq, retry)| (*seq, retry.due))
    }
}
