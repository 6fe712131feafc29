//! Limits that are allowed, and cannot do what they seem to: beside each other, or on this disk.
//!
//! Owns the comparisons. The range of each limit alone is its table's.

use std::time::Duration;

use rustix::fs::statvfs;

use super::places::nearest;
use crate::config::{Config, error::Problem};

/// Altinn sends an event again for so long.
const ALTINN_SENDS_AGAIN: Duration = Duration::from_secs(48 * 60 * 60);

/// What hardly anyone means.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let mut told = Vec::new();
    for (name, handler) in &config.handlers {
        let retry = &handler.retry;
        if retry.give_up_after < retry.backoff.initial() {
            let message = "is shorter than initial, so that an event is tried again once at the most: make it longer, \
                           or initial shorter";
            told.push(problem(&format!("handlers.{name}.retry.give_up_after"), message));
        }
    }
    if config.altinn.is_some() && config.queue.dedup_window < ALTINN_SENDS_AGAIN {
        let message = "is shorter than the two days for which Altinn sends an event again, so that one can be \
                       stored twice: leave it out (90d)";
        told.push(problem("queue.dedup_window", message));
    }
    told
}

/// Less room on the whole disk than is to stay free.
pub(super) fn disk(config: &Config) -> Option<Problem> {
    let found = statvfs(nearest(&config.data_dir)).ok()?;
    let (disk, least) = (found.f_blocks.checked_mul(found.f_frsize)?, config.queue.min_free_disk);
    // Some file systems do not say how large they are.
    (disk > 0 && least >= disk).then(|| {
        let message = format!(
            "is more than the whole disk of {} has ({} MiB), so that no event would be taken: make it smaller, or name \
             a larger disk in data_dir",
            config.data_dir.display(),
            disk >> 20
        );
        problem("queue.min_free_disk", &message)
    })
}

fn problem(key: &str, message: &str) -> Problem {
    Problem { key: key.to_owned(), message: message.to_owned() }
}
