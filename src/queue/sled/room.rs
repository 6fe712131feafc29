//! Whether there is room for more: live bytes, and free disk before sled meets its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{disk::Place, reader::Shared};
use crate::queue::QueueError;

/// The disk is asked at most this often.
const LOOK: Duration = Duration::from_secs(1);

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct Room {
    over_max: bool,
    disk: Option<(Instant, bool)>,
}

impl Room {
    /// Whether events may come in.
    pub(super) fn look(&mut self, shared: &Shared, place: &Place) -> Result<(), QueueError> {
        let (live, max) = (shared.state().live_bytes, shared.options.max_bytes);
        // Full at the limit, and until there is some room again, so that it does not flutter.
        let limit = if self.over_max { max - max / 20 } else { max };
        self.over_max = live >= limit;
        if self.over_max {
            return Err(QueueError::Full("max_bytes is reached"));
        }
        let now = Instant::now();
        let low = match self.disk {
            Some((at, low)) if now.duration_since(at) < LOOK => low,
            Some(_) | None => {
                let low = free(place) < shared.options.min_free_disk;
                self.disk = Some((now, low));
                low
            }
        };
        if low { Err(QueueError::Full("the disk has less than min_free_disk")) } else { Ok(()) }
    }
}

/// Free bytes for us on the disk; if it cannot say, writing will show.
fn free(place: &Place) -> u64 {
    rustix::fs::statvfs(place.directory())
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
