//! All dead letters, by id and by age, in memory. What they hold is on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{DeadLetterId, RawIdentity},
};

/// The dead letters.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// When each was buried, and its bytes.
    by_id: BTreeMap<DeadLetterId, (Timestamp, u64)>,
    by_age: BTreeSet<(Timestamp, DeadLetterId)>,
    /// Bytes that they take on disk.
    bytes: u64,
    /// The number of undecodable pushes among them.
    raw: u64,
    /// Which they are, by their numbers, and the other way.
    identities: BTreeMap<u64, RawIdentity>,
    numbers: HashMap<RawIdentity, u64>,
    /// The number of letters of each handler.
    by_handler: BTreeMap<HandlerName, u64>,
}

impl DeadLetters {
    /// It was buried; in the place of one with the same id.
    pub(crate) fn insert(&mut self, id: DeadLetterId, at: Timestamp, bytes: u64) {
        self.remove(&id);
        *self.count(&id) += 1;
        self.bytes += bytes;
        self.by_age.insert((at, id.clone()));
        self.by_id.insert(id, (at, bytes));
    }

    /// It is gone, if it was there.
    pub(crate) fn remove(&mut self, id: &DeadLetterId) {
        let Some((at, bytes)) = self.by_id.remove(id) else { return };
        *self.count(id) -= 1;
        self.bytes -= bytes;
        self.by_age.remove(&(at, id.clone()));
        if let DeadLetterId::Raw(number) = id
            && let Some(identity) = self.identities.remove(number)
            && self.numbers.get(&identity) == Some(number)
        {
            self.numbers.remove(&identity);
        }
    }

    /// The undecodable push of this number, which was buried, is this one. Of two that an earlier
    /// version kept, the first one counts.
    pub(crate) fn identify(&mut self, number: u64, identity: RawIdentity) {
        self.identities.insert(number, identity);
        self.numbers.entry(identity).or_insert(number);
    }

    /// Whether there is a letter of this undecodable push.
    pub(crate) fn has_raw(&self, identity: &RawIdentity) -> bool {
        self.numbers.contains_key(identity)
    }

    fn count(&mut self, id: &DeadLetterId) -> &mut u64 {
        match id {
            DeadLetterId::Raw(_) => &mut self.raw,
            DeadLetterId::Delivery(handler, _) => {
                self.by_handler.entry(handler.clone()).or_default()
            }
        }
    }

    pub(crate) fn contains(&self, id: &DeadLetterId) -> bool {
        self.by_id.contains_key(id)
    }

    /// In the order of their age.
    pub(crate) fn by_age(&self) -> impl DoubleEndedIterator<Item = &DeadLetterId> {
        self.by_age.iter().map(|(_, id)| id)
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

    /// The number of letters of this handler.
    pub(crate) fn of(&self, handler: &HandlerName) -> u64 {
        self.by_handler.get(handler).copied().unwrap_or(0)
    }

    /// Bytes that they take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
