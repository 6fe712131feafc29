//! What the state in memory is made of, as it stands on disk.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        DeadLetterId, RawIdentity,
        sled::codec::values::{Cursor, LogBounds},
    },
};

/// What the state is made of.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) bounds: LogBounds,
    pub(crate) next_raw: u64,
    pub(crate) live_bytes: u64,
    pub(crate) cursors: BTreeMap<HandlerName, Cursor>,
    /// Handler and number of each.
    pub(crate) retries: Vec<(HandlerName, u64, Waiting)>,
    /// Id, when it was buried, bytes.
    pub(crate) dead: Vec<(DeadLetterId, Timestamp, u64)>,
    /// Number of each undecodable push, and which it is.
    pub(crate) raw: Vec<(u64, RawIdentity)>,
}

impl Contents {
    /// Retries and dead letters of handlers: whose, and of which event.
    pub(crate) fn apart(&self) -> impl Iterator<Item = (&HandlerName, u64)> {
        let dead = self.dead.iter().filter_map(|(id, ..)| match id {
            DeadLetterId::Delivery(handler, seq) => Some((handler, seq.0)),
            DeadLetterId::Raw(_) => None,
        });
        self.retries.iter().map(|(handler, seq, _)| (handler, *seq)).chain(dead)
    }
}

/// A waiting retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) due: Timestamp,
    /// When that was decided.
    pub(crate) decided: Timestamp,
    pub(crate) bytes: u64,
}

impl Waiting {
    /// How long it still waits: never longer than was decided, whatever the clock says now.
    pub(crate) fn left(self, now: Timestamp) -> Duration {
        self.due.since(now).min(self.due.since(self.decided))
    }
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
