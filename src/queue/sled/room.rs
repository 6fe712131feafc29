//! Whether there is room for more: live bytes, and free disk before sled meets its end.

use std::{mem, path::Path, time::Duration};

use tokio::time::Instant;

use super::{ballast::Ballast, reader::Shared};
use crate::queue::QueueError;

/// The disk is asked at most this often.
const LOOK: Duration = Duration::from_secs(1);

/// What was found last.
#[derive(Debug)]
pub(super) struct Room {
    over_max: bool,
    looked: Option<Instant>,
    low: bool,
    /// The last error said that the disk is full.
    pub(super) disk_full: bool,
    ballast: Ballast,
}

impl Room {
    /// Of the store in this directory.
    pub(super) fn of(directory: &Path, max_bytes: u64) -> Self {
        let ballast = Ballast::of(directory, max_bytes);
        Self { over_max: false, looked: None, low: false, disk_full: false, ballast }
    }

    /// Whether events may come in.
    pub(super) fn look(&mut self, shared: &Shared) -> Result<(), QueueError> {
        let found = self.find(shared);
        shared.metrics.queue_full.set(i64::from(found.is_err()));
        found
    }

    fn find(&mut self, shared: &Shared) -> Result<(), QueueError> {
        let (live, max) = (shared.state().live_bytes, shared.options.max_bytes);
        // Full at the limit, and until there is some room again, so that it does not flutter.
        let limit = if self.over_max { max - max / 20 } else { max };
        self.over_max = live >= limit;
        if self.over_max {
            return Err(QueueError::Full("max_bytes is reached"));
        }
        let now = Instant::now();
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK) {
            let min_free = shared.options.min_free_disk;
            let free = free(&shared.options.directory);
            self.ballast.restore(free, min_free);
            (self.looked, self.low) = (Some(now), free < min_free);
        }
        if self.low {
            Err(QueueError::Full("the disk has less than min_free_disk"))
        } else if self.ballast.given_up {
            Err(QueueError::Full("the disk was full, and has too little room yet"))
        } else {
            Ok(())
        }
    }

    /// The store failed: if for want of room, some is made.
    pub(super) fn make(&mut self, directory: &Path) {
        if mem::take(&mut self.disk_full) || free(directory) < self.ballast.size / 2 {
            self.ballast.give_up();
        }
        self.looked = None;
    }
}

/// Free bytes for us on the disk; if it cannot say, writing will show.
fn free(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory)
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
