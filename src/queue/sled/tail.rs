//! The events that were stored last, in memory, for handlers that keep up.

use std::{collections::VecDeque, sync::Arc};

use crate::queue::StoredEvent;

/// Bytes of events that are kept in memory after they were stored, for handlers that keep up.
const TAIL_BYTES: usize = 2 * 1024 * 1024;

/// Events that were stored together, as they are given out.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) first: u64,
    pub(super) events: Vec<Arc<StoredEvent>>,
}

impl Group {
    /// These events, from this number on.
    pub(super) fn new(first: u64, events: Vec<StoredEvent>) -> Self {
        Self { first, events: events.into_iter().map(Arc::new).collect() }
    }

    /// The number after its last event.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.events.len()).unwrap_or(u64::MAX))
    }

    /// The event with this number, if it is in here.
    pub(super) fn event(&self, seq: u64) -> Option<Arc<StoredEvent>> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.events.get(index).cloned()
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|stored| stored.event.json().len() + 256).sum()
    }
}

/// The event with this number, if it is in these groups, which follow each other.
pub(super) fn event_in(groups: &[Group], seq: u64) -> Option<Arc<StoredEvent>> {
    let after = groups.partition_point(|group| group.first <= seq);
    groups.get(after.checked_sub(1)?)?.event(seq)
}

/// The groups stored last.
#[derive(Debug, Default)]
pub(super) struct Tail {
    groups: VecDeque<Arc<Group>>,
    bytes: usize,
}

impl Tail {
    pub(super) fn push(&mut self, group: Group) {
        self.bytes += group.bytes();
        self.groups.push_back(Arc::new(group));
        while self.bytes > TAIL_BYTES {
            let Some(oldest) = self.groups.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }

    pub(super) fn event(&self, seq: u64) -> Option<Arc<StoredEvent>> {
        let after = self.groups.partition_point(|group| group.first <= seq);
        self.groups.get(after.checked_sub(1)?)?.event(seq)
    }
}
