//! Altinn's feed: what it stored and did not push, or not to us.
//!
//! Owns that there is no gap. Each subscription has a reader with a cursor of its own, kept in the
//! store together with what was read; what it brings goes through the same dedup into the same log
//! as what is pushed. What to ask next and what an answer means is `pager`'s, and pure.

pub mod client;
pub mod cursor;
pub mod filters;
pub mod pager;
pub mod push_gap;
pub mod reader;

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    backoff::{Backoff, InvalidBackoff},
    event::Arrival,
};

/// Called with each event that the feed brought and that was stored.
pub type OnStored = Arc<dyn Fn(&Arrival) + Send + Sync>;

/// How often.
#[derive(Clone, Copy)]
pub struct Timing {
    /// Between readings; each is up to a tenth shorter or longer.
    pub interval: Duration,
    /// Between readings while the subscription is new.
    pub quick: Duration,
    /// A subscription is new for so long: Altinn pushes by a list that can be an hour old, and
    /// shows events in the feed half a minute later.
    pub settle: Duration,
    /// After failures.
    pub retry: Backoff,
    /// While the store takes nothing.
    pub store: Backoff,
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timing").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Timing {
    /// From `[altinn] feed_interval` and `overlap`: with "10m" a new subscription's feed is read
    /// every minute, and failures are retried after 10 s to 5 min.
    pub fn from_interval(interval: Duration, settle: Duration) -> Result<Self, InvalidBackoff> {
        let least = Duration::from_millis(20);
        let part = |divisor: u32| (interval / divisor).max(least);
        Ok(Self {
            interval: interval.max(least),
            quick: part(10),
            settle,
            retry: Backoff::try_new(part(60), part(2).max(part(60)), 2.0)?,
            store: Backoff::try_new(Duration::from_millis(100), Duration::from_secs(10), 2.0)?,
        })
    }
}
