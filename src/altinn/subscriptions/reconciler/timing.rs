//! How often the subscriptions are looked at, and how long something is waited for.

use std::time::Duration;

use crate::backoff::{Backoff, InvalidBackoff};

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between looks when all is well; each is up to a tenth shorter or longer.
    pub interval: Duration,
    /// How long a validation may take before it is asked for again.
    pub patience: Duration,
    /// Between looks while a validation is awaited.
    pub watch: Backoff,
    /// After failures.
    pub retry: Backoff,
    /// Between a look and the next one when someone wakes us, at the least.
    pub gap: Duration,
    /// Some looks may follow each other quickly; then one in each pause.
    pub floor: Duration,
}

impl Timing {
    /// All of it from `[altinn] reconcile_interval`: with "10m" validations are watched every 1 to
    /// 30 s and asked for again after 10 min, failures retried after 1 s to 5 min, and Altinn looked
    /// at 260 times an hour at the very most.
    pub fn from_interval(interval: Duration) -> Result<Self, InvalidBackoff> {
        let part = |divisor: u32, at_most| (interval / divisor).min(Duration::from_secs(at_most));
        Ok(Self {
            interval,
            patience: interval,
            watch: Backoff::try_new(part(10, 1), part(2, 30), 2.0)?,
            retry: Backoff::try_new(part(10, 1), part(2, 300), 2.0)?,
            gap: part(100, 1).min(Duration::from_millis(100)),
            floor: part(40, 15),
        })
    }
}
