//! How a queue is kept: its directory, its limits, its handlers.

use std::{path::PathBuf, time::Duration};

use crate::{name::HandlerName, queue::StartAt};

/// How a queue is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where; made if it is not there. One process at a time.
    pub directory: PathBuf,
    /// Live bytes at which it is full.
    pub max_bytes: u64,
    /// With less free disk it is full.
    pub min_free_disk: u64,
    /// How long an event is known by its id.
    pub dedup_window: Duration,
    /// The most ids that are known; the oldest are forgotten.
    pub dedup_max: usize,
    /// How long an event stays in the log, even if all handlers have it.
    pub retain: Duration,
    /// Bounds of the dead letters; the oldest make room.
    pub dead_letters: DeadLetterBounds,
    /// The configured handlers, and where a new one begins.
    pub handlers: Vec<(HandlerName, StartAt)>,
}

/// How many dead letters are kept, undecodable pushes among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterBounds {
    /// Their number.
    pub max: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their age.
    pub age: Duration,
}

impl Default for DeadLetterBounds {
    fn default() -> Self {
        Self { max: 100_000, bytes: 1 << 30, age: Duration::from_secs(365 * 24 * 3600) }
    }
}
