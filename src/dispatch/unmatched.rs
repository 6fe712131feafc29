//! Events that no handler is for: counted, and the last one remembered for `status`.
//!
//! They are kept in the log like any other; nothing here drops or stores them.

use std::sync::{Mutex, PoisonError};

use super::filter::Filter;
use crate::{clock::Timestamp, event::Arrival, metrics::Metrics};

/// Counts the events that no handler matches.
#[derive(Debug)]
pub struct Unmatched {
    filters: Vec<Filter>,
    metrics: Metrics,
    seen: Mutex<Seen>,
}

/// What was seen since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// The last one's type and when it was stored.
    pub last: Option<(String, Timestamp)>,
}

impl Unmatched {
    /// Nothing seen yet; `filters` are those of all handlers.
    pub fn new(filters: Vec<Filter>, metrics: Metrics) -> Self {
        Self { filters, metrics, seen: Mutex::default() }
    }

    /// Looks at an event that was stored at `at`; true if no handler matches it.
    pub fn note(&self, arrival: &Arrival, at: Timestamp) -> bool {
        let attributes = arrival.event.attributes();
        if self.filters.iter().any(|filter| filter.fits(attributes, &arrival.from)) {
            return false;
        }
        self.metrics.unmatched.inc();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.count += 1;
        seen.last = Some((attributes.ty.clone(), at));
        true
    }

    /// What was seen so far.
    pub fn snapshot(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
