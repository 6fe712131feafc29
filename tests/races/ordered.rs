//! A base in memory. Its iterators read ahead, as sled's do with a leaf.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    ops::Bound::{Excluded, Included, Unbounded},
};

use crate::{
    base::{Base, Bounds, Entry, Slice},
    sync::{Arc, PoisonError, RwLock},
};

/// It does not fail.
pub(crate) type Never = Infallible;

/// Entries that are read at once.
const AHEAD: usize = 3;

#[derive(Clone, Default)]
pub(crate) struct Ordered(Arc<RwLock<BTreeMap<Slice, Slice>>>);

impl Base for Ordered {
    type Error = Never;
    type Iter = Ahead;

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, Never> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn range(&self, bounds: Bounds) -> Ahead {
        Ahead { base: self.clone(), bounds, front: VecDeque::new(), back: VecDeque::new() }
    }

    fn change(&self, key: &[u8], value: Option<Slice>) -> Result<(), Never> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => entries.insert(key.into(), value),
            None => entries.remove(key),
        };
        Ok(())
    }
}

pub(crate) struct Ahead {
    base: Ordered,
    bounds: Bounds,
    front: VecDeque<(Slice, Slice)>,
    back: VecDeque<(Slice, Slice)>,
}

impl Ahead {
    fn read(&self, forward: bool) -> VecDeque<(Slice, Slice)> {
        let holds_any = match &self.bounds {
            (Included(low), Included(high)) => low <= high,
            (Included(low) | Excluded(low), Included(high) | Excluded(high)) => low < high,
            (Unbounded, _) | (_, Unbounded) => true,
        };
        if !holds_any {
            return VecDeque::new();
        }
        let entries = self.base.0.read().unwrap_or_else(PoisonError::into_inner);
        let range = entries.range(self.bounds.clone());
        let own = |(key, value): (&Slice, &Slice)| (key.clone(), value.clone());
        if forward {
            range.take(AHEAD).map(own).collect()
        } else {
            range.rev().take(AHEAD).map(own).collect()
        }
    }
}

impl Iterator for Ahead {
    type Item = Entry<Never>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_empty() {
            self.front = self.read(true);
        }
        let (key, value) = self.front.pop_front()?;
        self.bounds.0 = Excluded(key.clone());
        Some(Ok((key, value)))
    }
}

impl DoubleEndedIterator for Ahead {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.back.is_empty() {
            self.back = self.read(false);
        }
        let (key, value) = self.back.pop_front()?;
        self.bounds.1 = Excluded(key.clone());
        Some(Ok((key, value)))
    }
}
