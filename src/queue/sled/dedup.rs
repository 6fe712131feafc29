//! Which events were stored before: a set of keyed hashes in memory, a window of time and count.
//!
//! Only the writer looks at it. On disk the ids of events below `unpacked.note.until` stand in
//! `d|`, those of later ones in the groups' records, so every id in the set leaves with one record.

use std::collections::{BTreeSet, VecDeque};

use aws_lc_rs::hmac;

use super::{
    id_set::IdSet,
    ids::Packed,
    packing::{Note, Unpacked},
    record::{Head, Id},
};
use crate::{
    clock::Timestamp,
    event::{Attributes, Origin},
    name::HookName,
};

/// The window.
#[derive(Debug)]
pub(super) struct Dedup {
    key: hmac::Key,
    pub(super) known: IdSet,
    /// Hooks with ids of their own in the window, or that once had some.
    pub(super) hooks: BTreeSet<HookName>,
    /// The records of ids, oldest first.
    pub(super) packed: VecDeque<Packed>,
    /// The groups whose ids are in none of them.
    pub(super) unpacked: Unpacked,
    /// Ids of events below this number have left the window.
    pub(super) low: u64,
    /// The end and time of the oldest record that has ids in the window, when it is known.
    pub(super) oldest: Option<Head>,
}

impl Dedup {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self {
            key,
            known: IdSet::of_up_to(0),
            hooks: BTreeSet::new(),
            packed: VecDeque::new(),
            unpacked: Unpacked::default(),
            low: 0,
            oldest: None,
        }
    }

    /// The id of an event, or with `hook` the id of an event by this hook only.
    pub(super) fn id(
        &self,
        origin: &Origin,
        attributes: &Attributes,
        hook: Option<&HookName>,
    ) -> Id {
        let mut context = hmac::Context::with_key(&self.key);
        let origin = origin.to_string();
        let parts = [&origin, &attributes.source, &attributes.id];
        for part in parts.into_iter().map(String::as_str).chain(hook.map(HookName::as_str)) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let mut words = tag
            .as_ref()
            .chunks_exact(8)
            .map(|word| word.try_into().map(u64::from_be_bytes).unwrap_or_default());
        [words.next().unwrap_or_default(), words.next().unwrap_or_default()]
    }

    /// A group was stored, in so many bytes.
    pub(super) fn remember(&mut self, head: Head, bytes: u64) {
        self.known.extend(&head.ids);
        self.unpacked.push(head, bytes);
    }

    /// What is to be noted of the log: what its window has let go of is not missing in `d|`.
    pub(super) fn noted(&self, note: Note) -> Note {
        Note { from: note.from.max(self.low), ..note }
    }

    /// A record's ids leave the window.
    pub(super) fn forget(&mut self, head: &Head) {
        for id in &head.ids {
            self.known.remove(id);
        }
        self.low = self.low.max(head.end());
        if self.packed.front().is_some_and(|packed| packed.first < self.low) {
            self.packed.pop_front();
        }
        self.oldest = None;
    }

    /// Whether the oldest record's ids are to leave.
    pub(super) fn is_over(&self, head: &Head, ends_before: Timestamp, max: usize) -> bool {
        head.received < ends_before || self.known.len() > max
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_part_of_an_identity_makes_another_id() {
        let dedup = Dedup::new(&[7; 32]);
        let of = |source: &str, id: &str| Attributes {
            id: id.into(),
            source: source.into(),
            ty: "t".into(),
            subject: None,
            time: None,
            resource: None,
            resourceinstance: None,
            traceparent: None,
        };
        let hook: HookName = "c".parse().unwrap();
        let other = Origin::Source("a".parse().unwrap());
        let ids: HashSet<Id> = [
            dedup.id(&Origin::Altinn, &of("a", "bc"), None),
            dedup.id(&Origin::Altinn, &of("ab", "c"), None),
            dedup.id(&Origin::Altinn, &of("a", "b"), Some(&hook)),
            dedup.id(&other, &of("a", "bc"), None),
            Dedup::new(&[8; 32]).id(&Origin::Altinn, &of("a", "bc"), None),
        ]
        .into_iter()
        .collect();
        assert_eq!(ids.len(), 5);
        assert!(ids.contains(&dedup.id(&Origin::Altinn, &of("a", "bc"), None)));
    }
}
