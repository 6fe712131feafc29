//! Events in memory: those that were stored last, for handlers that keep up, and groups as they are
//! given out.

use std::{collections::VecDeque, sync::Arc};

use crate::queue::StoredEvent;

/// Bytes of events that are kept in memory after they were stored, for handlers that keep up.
const RECENT_BYTES: usize = 2 * 1024 * 1024;

/// Events that were stored together, as they are given out.
#[derive(Debug)]
pub(crate) struct Group {
    first: u64,
    events: Vec<Arc<StoredEvent>>,
}

impl Group {
    /// These events, from this number on.
    pub(crate) fn new(first: u64, events: Vec<StoredEvent>) -> Self {
        Self { first, events: events.into_iter().map(Arc::new).collect() }
    }

    /// The event with this number, if it is in here.
    pub(crate) fn event(&self, seq: u64) -> Option<Arc<StoredEvent>> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.events.get(index).cloned()
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(|stored| stored.event.json().len() + 256).sum()
    }
}

/// The event with this number, if it is in these groups, which are in order.
pub(crate) fn event_in(groups: &VecDeque<Group>, seq: u64) -> Option<Arc<StoredEvent>> {
    let after = groups.partition_point(|group| group.first <= seq);
    groups.get(after.checked_sub(1)?)?.event(seq)
}

/// The groups stored last, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct RecentCache {
    pub(super) groups: VecDeque<Group>,
    bytes: usize,
}

impl RecentCache {
    pub(crate) fn push(&mut self, group: Group) {
        self.bytes += group.bytes();
        self.groups.push_back(group);
        while self.bytes > RECENT_BYTES {
            let Some(oldest) = self.groups.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}
