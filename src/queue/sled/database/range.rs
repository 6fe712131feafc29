//! Entries of a range, from either end: sled's with the changes that lie over them.

use std::{
    iter::Rev,
    ops::{
        Bound::{self, Excluded, Included, Unbounded},
        RangeBounds,
    },
    sync::Arc,
};

use sled::{IVec, Iter, Tree};

use super::ahead::{Ahead, Bounds, Change, End};

type Entry = sled::Result<(IVec, IVec)>;

/// An iterator over entries. It sees each change or does not; never a part of what was changed in
/// between as missing that was there before and after.
pub(in crate::queue::sled) struct Range {
    ahead: Arc<Ahead>,
    tree: Tree,
    /// What was not read yet.
    bounds: Bounds,
    /// Sled's next entry from either end, read but not told yet, and what is behind it.
    front: Side<Iter>,
    back: Side<Rev<Iter>>,
    /// Sled had got so many layers when that was read.
    read_at: u64,
}

struct Side<I> {
    iter: Option<I>,
    next: Option<Entry>,
}

impl<I> Default for Side<I> {
    fn default() -> Self {
        Self { iter: None, next: None }
    }
}

impl<I: Iterator<Item = Entry>> Side<I> {
    /// Sled's next entry; None at the end. An error counts as within any bounds.
    fn peek(&mut self, begin: impl FnOnce() -> I) -> Option<&Entry> {
        let iter = self.iter.get_or_insert_with(begin);
        if self.next.is_none() {
            self.next = iter.next();
        }
        self.next.as_ref()
    }
}

/// Who has the next entry.
enum Whose {
    Sled,
    Ahead,
    /// Both: the change replaces sled's entry.
    Both,
}

impl Range {
    pub(super) fn new(ahead: &Arc<Ahead>, tree: &Tree, bounds: Bounds) -> Self {
        Self {
            ahead: Arc::clone(ahead),
            tree: tree.clone(),
            bounds,
            front: Side::default(),
            back: Side::default(),
            read_at: 0,
        }
    }

    /// Only the keys.
    pub(in crate::queue::sled) fn keys(
        self,
    ) -> impl DoubleEndedIterator<Item = sled::Result<IVec>> + use<> {
        self.map(|entry| entry.map(|(key, _)| key))
    }

    fn step(&mut self, end: End) -> Option<Entry> {
        while holds_any(&self.bounds) {
            // Before sled is looked at: what is not here any more is there.
            let (handed_over, change) = self.ahead.edge(&self.bounds, end);
            if handed_over != self.read_at {
                (self.front, self.back) = (Side::default(), Side::default());
                self.read_at = handed_over;
            }
            let whose = match (self.peek(end), &change) {
                (Some(Err(_)), _) => return self.take(end),
                (None, None) => return None,
                (Some(Ok(_)), None) => Whose::Sled,
                (None, Some(_)) => Whose::Ahead,
                (Some(Ok((key, _))), Some((changed, _))) if key == changed => Whose::Both,
                (Some(Ok((key, _))), Some((changed, _))) => {
                    let sled = if end == End::Front { key < changed } else { key > changed };
                    if sled { Whose::Sled } else { Whose::Ahead }
                }
            };
            if !matches!(whose, Whose::Ahead) {
                let entry = self.take(end)?;
                if matches!(whose, Whose::Sled) {
                    if let Ok((key, _)) = &entry {
                        self.pass(end, key.clone());
                    }
                    return Some(entry);
                }
            }
            let (key, change) = change?;
            self.pass(end, key.clone());
            if let Change::Set(value) = change {
                return Some(Ok((key, value)));
            }
        }
        None
    }

    /// Sled's next entry, if it was not told from the other end.
    fn peek(&mut self, end: End) -> Option<&Entry> {
        let (tree, bounds) = (&self.tree, &self.bounds);
        let begin = || tree.range::<IVec, _>(bounds.clone());
        let next = match end {
            End::Front => self.front.peek(begin),
            End::Back => self.back.peek(|| begin().rev()),
        };
        next.filter(|entry| entry.as_ref().map_or(true, |(key, _)| bounds.contains(key)))
    }

    fn take(&mut self, end: End) -> Option<Entry> {
        if end == End::Front { self.front.next.take() } else { self.back.next.take() }
    }

    fn pass(&mut self, end: End, key: IVec) {
        let (low, high) = &mut self.bounds;
        *(if end == End::Front { low } else { high }) = Excluded(key);
    }
}

impl Iterator for Range {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.step(End::Front)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Entry> {
        self.step(End::Back)
    }
}

fn key(bound: &Bound<IVec>) -> Option<&IVec> {
    match bound {
        Included(key) | Excluded(key) => Some(key),
        Unbounded => None,
    }
}

/// Some key may be within. A map cannot be asked for a range that goes backwards.
fn holds_any((low, high): &Bounds) -> bool {
    let (Some(first), Some(last)) = (key(low), key(high)) else { return true };
    first < last || (first == last && matches!((low, high), (Included(_), Included(_))))
}
