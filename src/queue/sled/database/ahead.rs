//! What the journal has and sled does not have yet.
//!
//! Owns two layers of changes. The young one takes what is committed; from time to time it becomes
//! the old one, which sled gets as a whole. Most events are delivered and deleted before that, and
//! sled never hears of them. Both lie over sled: what stands here counts.

use std::{
    collections::BTreeMap,
    mem,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use sled::IVec;

use super::super::writer::Entries;

/// What became of a key.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(IVec),
    Removed,
}

/// Changes by their keys.
pub(super) type Layer = BTreeMap<IVec, Change>;
/// From here to there.
pub(super) type Bounds = (Bound<IVec>, Bound<IVec>);

/// Which end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// The layers.
#[derive(Debug, Default)]
pub(super) struct Ahead(RwLock<Layers>);

#[derive(Debug, Default)]
struct Layers {
    young: Layer,
    old: Option<Arc<Layer>>,
    /// So many layers sled has got. Whoever reads sled and has read that before reads again.
    handed_over: u64,
}

impl Change {
    /// The value that the key has now, if it has one.
    pub(super) fn value(self) -> Option<IVec> {
        match self {
            Self::Set(value) => Some(value),
            Self::Removed => None,
        }
    }
}

impl Ahead {
    /// Takes these changes, in their order.
    pub(super) fn take(&self, entries: Entries) {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in entries {
            let change = value.map_or(Change::Removed, |value| Change::Set(value.into()));
            layers.young.insert(key.into(), change);
        }
    }

    /// What is to be said of this key; None if that is sled's to say.
    pub(super) fn get(&self, key: &[u8]) -> Option<Change> {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let old = || layers.old.as_ref().and_then(|old| old.get(key));
        layers.young.get(key).or_else(old).cloned()
    }

    /// The first change at this end of the bounds, and how many layers sled has got by now.
    pub(super) fn edge(&self, bounds: &Bounds, end: End) -> (u64, Option<(IVec, Change)>) {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let young = edge(&layers.young, bounds, end);
        let old = layers.old.as_ref().and_then(|old| edge(old, bounds, end));
        let first = match (young, old) {
            (Some(young), Some(old)) => {
                let old_is_nearer =
                    if end == End::Front { old.0 < young.0 } else { old.0 > young.0 };
                Some(if old_is_nearer { old } else { young })
            }
            (young, old) => young.or(old),
        };
        (layers.handed_over, first.map(|(key, change)| (key.clone(), change.clone())))
    }

    /// The young layer becomes the old one, if there is none.
    pub(super) fn freeze(&self) {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if layers.old.is_none() {
            layers.old = Some(Arc::new(mem::take(&mut layers.young)));
        }
    }

    /// The layer that sled is to get now.
    pub(super) fn old(&self) -> Option<Arc<Layer>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).old.clone()
    }

    /// Whether this key was changed again since: then sled need not hear of what it was before. The
    /// journal has the later change, and sled will get that.
    pub(super) fn is_changed_again(&self, key: &[u8]) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).young.contains_key(key)
    }

    /// Sled has it.
    pub(super) fn handed_over(&self) {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        layers.handed_over += 1;
        let old = layers.old.take();
        drop(layers);
        drop(old);
    }
}

fn edge<'a>(layer: &'a Layer, (low, high): &Bounds, end: End) -> Option<(&'a IVec, &'a Change)> {
    let bounds = (low.as_ref().map(|key| &**key), high.as_ref().map(|key| &**key));
    let mut within = layer.range::<[u8], _>(bounds);
    if end == End::Front { within.next() } else { within.next_back() }
}
