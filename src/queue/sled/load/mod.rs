//! What stands in the store, read at start and by a verification: one walk over it for both.
//!
//! A start reads the checksum of every value that it needs, and stops at the first fault. Of a large
//! log it reads only the end, behind the last run of ids; damage before that is found when it is
//! read. A verification reads everything, and collects the faults.

mod entries;
mod faults;
mod log;
mod walk;

use std::{collections::BTreeMap, time::Duration};

use self::faults::Strict;
pub(super) use self::{
    faults::Collected,
    walk::{Depth, Survey, numbers, walk},
};
use super::{
    codec::values::{Cursor, DedupKey, LogBounds, encode_key},
    dedup::Dedup,
    options::Options,
};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::DeadLetterId,
    store::{Error, View},
};

/// What the state is made of.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) bounds: LogBounds,
    pub(super) next_raw: u64,
    pub(super) live_bytes: u64,
    pub(super) cursors: BTreeMap<HandlerName, Cursor>,
    /// Handler and number of each.
    pub(super) retries: Vec<(HandlerName, u64, Waiting)>,
    /// Id, when it was buried, bytes.
    pub(super) dead: Vec<(DeadLetterId, Timestamp, u64)>,
}

/// A waiting retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) due: Timestamp,
    /// When that was decided.
    pub(super) decided: Timestamp,
    pub(super) bytes: u64,
}

impl Waiting {
    /// How long it still waits: never longer than was decided, whatever the clock says now.
    pub(super) fn left(self, now: Timestamp) -> Duration {
        self.due.since(now).min(self.due.since(self.decided))
    }
}

/// A store as it was opened.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) dedup: Dedup,
    /// The value to write, if the store is a new one.
    pub(super) new_key: Option<Vec<u8>>,
}

/// Reads it; of a log with more packed bytes than `read_whole` only the end.
pub(super) fn load(view: &View, options: &Options, read_whole: u64) -> Result<Loaded, Error> {
    let depth = Depth::Start { read_whole, dedup_max: options.dedup_max };
    let Survey { key, contents, mut dedup, .. } = walk(view, depth, &mut Strict)?;
    let mut new_key = None;
    if key.is_none() {
        let key = random_key()?;
        new_key = Some(encode_key(&key));
        dedup.set_key(&key);
    }
    Ok(Loaded { contents, dedup, new_key })
}

/// A new dedup key.
pub(super) fn random_key() -> Result<DedupKey, Error> {
    let mut key = DedupKey::default();
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::other("no random numbers"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_at_most_as_long_as_was_decided() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let waiting = Waiting { due: at(160), decided: at(100), bytes: 0 };
        for (now, left) in [(100, 60), (130, 30), (160, 0), (999, 0), (40, 60), (0, 60)] {
            assert_eq!(waiting.left(at(now)), Duration::from_secs(left), "{now}");
        }
    }
}
