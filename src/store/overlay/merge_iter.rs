//! The value of a key, and the entries of a range from either end: sled's, with the memtables laid
//! over them.

use std::{
    cmp::Ordering,
    iter::{Peekable, Rev},
    ops::{
        Bound::{Excluded, Included, Unbounded},
        RangeBounds,
    },
};

use super::{
    base::{Base, Bounds, Entry, Slice},
    memtable::{End, Memtable},
    sync::Arc,
};

/// The value of a key: the overlay's entry counts before the base's.
pub(crate) fn get<B: Base>(
    memtable: &Memtable,
    base: &B,
    key: &[u8],
) -> Result<Option<Slice>, B::Error> {
    // Before the base is looked at: what is not in a memtable any more is there.
    memtable.get(key).map_or_else(|| base.get(key), Ok)
}

/// An iterator over entries. It sees each change that comes meanwhile, or does not; it never misses
/// an entry that was there before and after.
pub(crate) struct MergeIter<B: Base> {
    memtable: Arc<Memtable>,
    base: B,
    /// What was not told yet.
    bounds: Bounds,
    /// The base's entries from either end; the other end may have told the next one.
    front: Option<Peekable<B::Iter>>,
    back: Option<Peekable<Rev<B::Iter>>>,
    /// The number of memtables that the base had got when these were begun.
    read_at: u64,
}

impl<B: Base> MergeIter<B> {
    /// The entries within these bounds.
    pub(crate) fn new(memtable: &Arc<Memtable>, base: B, bounds: Bounds) -> Self {
        let memtable = Arc::clone(memtable);
        Self { memtable, base, bounds, front: None, back: None, read_at: 0 }
    }

    fn step(&mut self, end: End) -> Option<Entry<B::Error>> {
        while holds_any(&self.bounds) {
            // Before the base is looked at: what is not in a memtable any more is there.
            let (retired, change) = self.memtable.edge(&self.bounds, end);
            if retired != self.read_at {
                (self.front, self.back, self.read_at) = (None, None, retired);
            }
            let base = match (self.peek(end), &change) {
                (None, None) => return None,
                (None, Some(_)) => Ordering::Greater,
                (Some(Err(_)), _) | (Some(Ok(_)), None) => Ordering::Less,
                (Some(Ok((key, _))), Some((changed, _))) => end.order(key, changed),
            };
            let (key, value) = if base.is_lt() {
                match self.take(end)? {
                    Ok((key, value)) => (key, Some(value)),
                    Err(error) => return Some(Err(error)),
                }
            } else {
                if base.is_eq() {
                    // The change replaces it.
                    drop(self.take(end));
                }
                change?
            };
            let (low, high) = &mut self.bounds;
            *(if end == End::Front { low } else { high }) = Excluded(key.clone());
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
        None
    }

    /// The base's next entry, if it was not told from the other end. An error counts as within any
    /// bounds.
    fn peek(&mut self, end: End) -> Option<&Entry<B::Error>> {
        let (base, bounds) = (&self.base, &self.bounds);
        let begin = || base.range(bounds.clone());
        let next = match end {
            End::Front => self.front.get_or_insert_with(|| begin().peekable()).peek(),
            End::Back => self.back.get_or_insert_with(|| begin().rev().peekable()).peek(),
        };
        next.filter(|entry| entry.as_ref().map_or(true, |(key, _)| bounds.contains(key)))
    }

    fn take(&mut self, end: End) -> Option<Entry<B::Error>> {
        match end {
            End::Front => self.front.as_mut()?.next(),
            End::Back => self.back.as_mut()?.next(),
        }
    }
}

impl<B: Base> Iterator for MergeIter<B> {
    type Item = Entry<B::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(End::Front)
    }
}

impl<B: Base> DoubleEndedIterator for MergeIter<B> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(End::Back)
    }
}

/// Whether a key may be within. A map cannot be asked for a range that goes backwards.
fn holds_any(bounds: &Bounds) -> bool {
    match bounds {
        (Included(low), Included(high)) => low <= high,
        (Included(low) | Excluded(low), Included(high) | Excluded(high)) => low < high,
        (Unbounded, _) | (_, Unbounded) => true,
    }
}
