//! All dead letters, by id and by age, in memory. What they hold is on disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::{clock::Timestamp, queue::DeadLetterId};

/// The dead letters.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// When each was buried, and its bytes.
    by_id: BTreeMap<DeadLetterId, (Timestamp, u64)>,
    by_age: BTreeSet<(Timestamp, DeadLetterId)>,
    /// Bytes that they take on disk.
    bytes: u64,
    /// Undecodable pushes among them.
    raw: u64,
}

impl DeadLetters {
    /// It was buried; in the place of one with the same id.
    pub(super) fn insert(&mut self, id: DeadLetterId, at: Timestamp, bytes: u64) {
        self.remove(&id);
        self.raw += u64::from(matches!(id, DeadLetterId::Raw(_)));
        self.bytes += bytes;
        self.by_age.insert((at, id.clone()));
        self.by_id.insert(id, (at, bytes));
    }

    /// The bytes that it took; `None` if there is no such letter.
    pub(super) fn remove(&mut self, id: &DeadLetterId) -> Option<u64> {
        let (at, bytes) = self.by_id.remove(id)?;
        self.raw -= u64::from(matches!(id, DeadLetterId::Raw(_)));
        self.bytes -= bytes;
        self.by_age.remove(&(at, id.clone()));
        Some(bytes)
    }

    pub(crate) fn contains(&self, id: &DeadLetterId) -> bool {
        self.by_id.contains_key(id)
    }

    /// In the order of their age.
    pub(crate) fn by_age(&self) -> impl DoubleEndedIterator<Item = &DeadLetterId> {
        self.by_age.iter().map(|(_, id)| id)
    }

    /// In the order of their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &DeadLetterId> {
        self.by_id.keys()
    }

    /// Those that are beyond these bounds, oldest first, at most `limit`.
    pub(crate) fn surplus(
        &self,
        (max, max_bytes): (usize, u64),
        buried_before: Option<Timestamp>,
        limit: usize,
    ) -> Vec<DeadLetterId> {
        let (mut count, mut bytes) = (self.by_id.len(), self.bytes);
        let over = |(at, id): &&(Timestamp, DeadLetterId)| {
            let is_over =
                count > max || bytes > max_bytes || buried_before.is_some_and(|t| *at < t);
            count -= 1;
            bytes -= self.by_id.get(id).map_or(0, |(_, bytes)| *bytes);
            is_over
        };
        self.by_age.iter().take(limit).take_while(over).map(|(_, id)| id.clone()).collect()
    }

    /// The number of undecodable pushes.
    pub(crate) fn raw(&self) -> u64 {
        self.raw
    }
}
