//! An event in the log, and its place.

use std::{fmt, str::FromStr};

use crate::{
    clock::Timestamp,
    event::{Event, Origin},
    name::HookName,
};

/// An event's place in the log. Opaque: greater is later, and that is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub(in crate::queue) u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seq {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub seq: Seq,
    /// When it was stored.
    pub received: Timestamp,
    /// Its identity's scope.
    pub origin: Origin,
    /// The subscriptions or sources that it belongs to.
    pub from: Vec<HookName>,
    /// Belonged to these already when it was stored before: a handler that matched it then does
    /// not get it again (see [`crate::event::Arrival::only_by_hook`]).
    pub already: Vec<HookName>,
    /// The event.
    pub event: Event,
}
