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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        config::{Match, Pattern},
        event::{Event, Origin},
    };

    #[test]
    fn only_an_event_that_no_handler_matches_is_counted_and_remembered() {
        let only = |ty: &str| {
            let ty = vec![Pattern::Exact(ty.to_owned())];
            Filter::new(&Match { ty, ..Match::default() })
        };
        let metrics = Metrics::default();
        let unmatched = Unmatched::new(vec![only("a"), only("b")], metrics.clone());
        let at = Timestamp::from_millis;
        for (ty, at, expected) in [("b", at(1), false), ("c", at(2), true), ("a", at(3), false)] {
            let json = format!(r#"{{"id":"1","source":"/a","type":"{ty}"}}"#);
            let event = Event::from_json(Bytes::from(json)).unwrap();
            let (origin, from) = (Origin::Altinn, vec!["x".parse().unwrap()]);
            let arrival = Arrival { event, origin, from, only_by_hook: None };
            assert_eq!(unmatched.note(&arrival, at), expected, "{ty}");
        }
        assert_eq!(unmatched.snapshot(), Seen { count: 1, last: Some(("c".into(), at(2))) });
        assert_eq!(metrics.unmatched.get(), 1);
    }
}
