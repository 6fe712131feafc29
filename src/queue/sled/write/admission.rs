//! Whether events may come in: live bytes, and room on the disk before the disk is full.
//!
//! Room inside the store's own file counts as room: sled uses it again, but gives back only the end
//! of the file. So what is delivered makes room, whatever the file's size.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    queue::sled::shared::Shared,
    store::{
        Directory, Disk,
        room::{self, BALLAST, GROWTH, Reserve},
    },
};

/// The disk is asked at most this often.
const LOOK: Duration = Duration::from_secs(1);

/// Memory and disk that an id takes.
const ID: u64 = 16;

/// What was found last.
#[derive(Debug)]
pub(crate) struct Admission {
    over_max: bool,
    looked: Option<Instant>,
    low: bool,
    reserve: Reserve,
}

impl Admission {
    /// Of the store in this directory.
    pub(crate) fn of(directory: &Directory, max_bytes: u64, disk: &Disk) -> Self {
        let reserve = Reserve::of(directory, max_bytes, disk);
        Self { over_max: false, looked: None, low: false, reserve }
    }

    /// Why no events may come in, if none may.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let full = self.find(shared);
        shared.metrics.queue_full.set(i64::from(full.is_some()));
        let mut state = shared.state();
        if full != state.full {
            if let Some(why) = full {
                tracing::warn!(%why, "the queue is full: new events are refused");
            } else {
                tracing::info!("the queue has room again");
            }
            state.full = full;
        }
    }

    fn find(&mut self, shared: &Shared) -> Option<&'static str> {
        let options = &shared.options;
        let (live, ids) = {
            let state = shared.state();
            (state.live_bytes(), state.dedup_ids)
        };
        // Full at the limit, and until there is some room again, so that it does not flutter.
        let max = options.max_bytes;
        let limit = if self.over_max { max - max / 20 } else { max };
        self.over_max = live >= limit;
        if self.over_max {
            return Some("max_bytes is reached");
        }
        let now = Instant::now();
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK) {
            let free = room::free(&options.directory, &shared.disk);
            let spare = spare(self.database_len(), live.saturating_add(ids * ID));
            let room = free.saturating_add(self.reserve.kept()).saturating_add(spare);
            (self.looked, self.low) = (Some(now), room < options.min_free_disk);
            if !self.low {
                self.reserve.keep();
            }
        }
        self.low.then_some("the disk has less than min_free_disk")
    }

    /// Bytes of sled's file, free ones in it included.
    pub(crate) fn database_len(&self) -> u64 {
        self.reserve.database_len()
    }

    /// Before the store is opened: opening it must not fail for want of room.
    pub(crate) fn before_opening(&mut self, shared: &Shared, failed_for_room: bool) {
        let free = room::free(&shared.options.directory, &shared.disk);
        if failed_for_room || free < BALLAST {
            self.give_way();
        }
        self.looked = None;
    }

    /// Makes way for opening the store; whether there was anything to give.
    pub(crate) fn give_way(&self) -> bool {
        self.reserve.give_way()
    }
}

/// Bytes that sled's file of this length can take in before it grows, about: sled needs up to two and
/// a half times what it holds, and some more.
fn spare(file: u64, held: u64) -> u64 {
    file.saturating_sub(held.saturating_mul(5) / 2).saturating_sub(GROWTH)
}

/// Whether sled's file is so much larger than what it holds that it is worth writing anew, and that
/// takes a moment only.
pub(crate) fn is_worth_compacting(file: u64, held: u64) -> bool {
    const SMALL: u64 = 64 << 20;
    held <= SMALL && file >= 256 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn room_within_the_file_is_what_it_does_not_need_for_what_it_holds() {
        assert_eq!(spare(100 * MIB, 100 * MIB), 0);
        assert_eq!(spare(1032 * MIB, 0), 1000 * MIB);
        assert_eq!(spare(1032 * MIB, 400 * MIB), 0);
        assert!(is_worth_compacting(256 * MIB, 64 * MIB));
        assert!(!is_worth_compacting(255 * MIB, 0) && !is_worth_compacting(1 << 40, 65 * MIB));
    }
}
