//! What the write-ahead log has and sled does not have yet.
//!
//! Owns two memtables, and the frozen one's way to the base. The active one takes what is committed;
//! from time to time it is frozen, and a checkpoint gives sled the frozen one as a whole. Most events
//! are delivered and deleted before that, and sled never hears of them. Both overlay sled: what
//! stands here counts.

use std::{cmp::Ordering, collections::BTreeMap, mem};

use super::{
    base::{Base, Bounds, Slice},
    sync::{Arc, PoisonError, RwLock},
};

/// What a key was changed to: its value, or `None` if it was removed.
pub(crate) type Change = Option<Slice>;

/// Changes by their keys.
pub(crate) type Changes = BTreeMap<Slice, Change>;

/// Which end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

impl End {
    /// `Less` if the first key is nearer to this end.
    pub(crate) fn order(self, first: &Slice, second: &Slice) -> Ordering {
        match self {
            Self::Front => first.cmp(second),
            Self::Back => second.cmp(first),
        }
    }
}

/// The memtables.
#[derive(Debug, Default)]
pub(crate) struct Memtable(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    active: Changes,
    frozen: Option<Arc<Changes>>,
    /// The number of memtables that sled has got. Whoever read sled before one of them reads anew.
    retired: u64,
}

impl Memtable {
    /// Takes these changes, in their order.
    pub(crate) fn apply(&self, changes: impl IntoIterator<Item = (Slice, Change)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).active.extend(changes);
    }

    /// The overlay's entry; `None` defers to sled.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Change> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let frozen = || tables.frozen.as_ref().and_then(|frozen| frozen.get(key));
        tables.active.get(key).or_else(frozen).cloned()
    }

    /// All values in it; those of the active one count.
    pub(crate) fn all(&self) -> Vec<(Slice, Slice)> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = tables.frozen.as_deref().cloned().unwrap_or_default();
        all.extend(tables.active.clone());
        all.into_iter().filter_map(|(key, change)| Some((key, change?))).collect()
    }

    /// The number of memtables that sled has got by now, and the first change at this end of the
    /// bounds.
    pub(crate) fn edge(&self, bounds: &Bounds, end: End) -> (u64, Option<(Slice, Change)>) {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let active = edge(&tables.active, bounds, end);
        let frozen = tables.frozen.as_ref().and_then(|frozen| edge(frozen, bounds, end));
        let first = match (active, frozen) {
            (Some(active), Some(frozen)) if end.order(frozen.0, active.0).is_lt() => Some(frozen),
            (active, frozen) => active.or(frozen),
        };
        (tables.retired, first.map(|(key, change)| (key.clone(), change.clone())))
    }

    /// The active memtable becomes the frozen one, if there is none.
    pub(crate) fn freeze(&self) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tables.frozen.is_none() {
            tables.frozen = Some(Arc::new(mem::take(&mut tables.active)));
        }
    }

    /// The memtable that sled is to get now.
    pub(crate) fn frozen(&self) -> Option<Arc<Changes>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).frozen.clone()
    }

    /// Gives the base the frozen memtable, has `settle` make it durable there, and only then retires
    /// it, so that whoever reads finds each change in one of the two.
    pub(crate) fn hand_over<B: Base>(
        &self,
        base: &B,
        settle: impl FnOnce() -> Result<(), B::Error>,
    ) -> Result<(), B::Error> {
        for (key, change) in &*self.frozen().unwrap_or_default() {
            if !self.is_active(key) {
                base.change(key, change.clone())?;
            }
        }
        settle()?;
        self.retire();
        Ok(())
    }

    /// Whether this key was changed again after the freeze. Then sled need not hear of the frozen
    /// change: the write-ahead log has the later one, and a later checkpoint brings it.
    fn is_active(&self, key: &[u8]) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).active.contains_key(key)
    }

    /// Sled has the frozen memtable, or got something at once: whoever reads it reads it anew.
    pub(crate) fn retire(&self) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tables.retired += 1;
        let frozen = tables.frozen.take();
        drop(tables);
        // It can be large: not while others wait.
        drop(frozen);
    }
}

fn edge<'a>(table: &'a Changes, (low, high): &Bounds, end: End) -> Option<(&'a Slice, &'a Change)> {
    let bounds = (low.as_ref().map(|key| &**key), high.as_ref().map(|key| &**key));
    let mut within = table.range::<[u8], _>(bounds);
    if end == End::Front { within.next() } else { within.next_back() }
}
