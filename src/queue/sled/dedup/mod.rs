//! Which events were stored before: a set of keyed hashes in memory, a window of time and count.
//!
//! Only the writer looks at it. On disk the ids stand in runs ([`runs`]) and, of the events that
//! were stored last, in their groups' records; every id in the set leaves with one of these.

pub(super) mod id_set;
pub(super) mod runs;

use std::collections::BTreeSet;

use aws_lc_rs::hmac;

use self::{id_set::IdSet, runs::Runs};
use super::codec::{
    record::{Head, Id},
    values::DedupKey,
};
use crate::{
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
    pub(super) runs: Runs,
}

impl Dedup {
    /// One that knows no id yet.
    pub(super) fn new(key: &DedupKey) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let (known, hooks, runs) = (IdSet::of_up_to(0), BTreeSet::new(), Runs::default());
        Self { key, known, hooks, runs }
    }

    /// Makes ids with this key from now on.
    pub(super) fn set_key(&mut self, key: &DedupKey) {
        self.key = hmac::Key::new(hmac::HMAC_SHA256, key);
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
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// A group was stored, in a record of `bytes`.
    pub(super) fn remember(&mut self, head: Head, bytes: u64) {
        self.known.extend(&head.ids);
        self.runs.push(head, bytes);
    }

    /// What has the oldest ids leaves the window. `read` reads those of the run that begins with
    /// this event; without them nothing leaves it, and this is false.
    pub(super) fn pass_oldest<E>(
        &mut self,
        read: impl FnOnce(u64) -> Result<Option<Vec<Id>>, E>,
    ) -> Result<bool, E> {
        let Some(oldest) = self.runs.oldest() else { return Ok(false) };
        let on_disk = if oldest.ids.is_none() { read(oldest.first)? } else { None };
        let Some(ids) = oldest.ids.or(on_disk.as_deref()) else { return Ok(false) };
        for id in ids {
            self.known.remove(id);
        }
        let end = oldest.end;
        self.runs.begin_at(end);
        Ok(true)
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
