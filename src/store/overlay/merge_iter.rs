//! The value of a key, and the entries of a range from either end: sled's, with the memtables laid
//! over them.

use std::{
    iter::Rev,
    ops::{
        Bound::{self, Excluded, Included, Unbounded},
        RangeBounds,
    },
};

use super::{
    base::{Base, Bounds, Entry, Slice},
    memtable::{End, Memtable, Overlay},
    sync::Arc,
};

/// The value of a key: the overlay's entry counts before the base's.
pub(crate) fn get<B: Base>(
    memtable: &Memtable,
    base: &B,
    key: &[u8],
) -> Result<Option<Slice>, B::Error> {
    // Before the base is looked at: what is not in a memtable any more is there.
    match memtable.get(key) {
        Some(change) => Ok(change.value()),
        None => base.get(key),
    }
}

/// The base trims its memory after this many of its entries were read.
const TRIM: usize = 8;

/// An iterator over entries. It sees each change that comes meanwhile, or does not; it never misses
/// an entry that was there before and after.
pub(crate) struct MergeIter<B: Base> {
    memtable: Arc<Memtable>,
    base: B,
    /// What was not read yet.
    bounds: Bounds,
    /// The base's next entry from either end, read but not told yet, and what is behind it.
    front: Side<B::Iter, B::Error>,
    back: Side<Rev<B::Iter>, B::Error>,
    /// The number of memtables that the base had got when that was read.
    read_at: u64,
    /// Entries read from the base since it last trimmed its memory, and the last of them.
    untrimmed: usize,
    last: Option<Slice>,
}

struct Side<I, E> {
    iter: Option<I>,
    next: Option<Entry<E>>,
}

impl<I, E> Default for Side<I, E> {
    fn default() -> Self {
        Self { iter: None, next: None }
    }
}

impl<I: Iterator<Item = Entry<E>>, E> Side<I, E> {
    /// The base's next entry; `None` at the end. An error counts as within any bounds.
    fn peek(&mut self, begin: impl FnOnce() -> I) -> Option<&Entry<E>> {
        let iter = self.iter.get_or_insert_with(begin);
        if self.next.is_none() {
            self.next = iter.next();
        }
        self.next.as_ref()
    }
}

/// Who has the next entry.
enum Whose {
    Base,
    Overlay,
    /// Both: the change replaces the base's entry.
    Both,
}

impl<B: Base> MergeIter<B> {
    /// The entries within these bounds.
    pub(crate) fn new(memtable: &Arc<Memtable>, base: B, bounds: Bounds) -> Self {
        Self {
            memtable: Arc::clone(memtable),
            base,
            bounds,
            front: Side::default(),
            back: Side::default(),
            read_at: 0,
            untrimmed: 0,
            last: None,
        }
    }

    fn step(&mut self, end: End) -> Option<Entry<B::Error>> {
        while holds_any(&self.bounds) {
            // Before the base is looked at: what is not in a memtable any more is there.
            let (retired, change) = self.memtable.edge(&self.bounds, end);
            if retired != self.read_at {
                (self.front, self.back) = (Side::default(), Side::default());
                self.read_at = retired;
            }
            let whose = match (self.peek(end), &change) {
                (Some(Err(_)), _) => return self.take(end),
                (None, None) => return None,
                (Some(Ok(_)), None) => Whose::Base,
                (None, Some(_)) => Whose::Overlay,
                (Some(Ok((key, _))), Some((changed, _))) if key == changed => Whose::Both,
                (Some(Ok((key, _))), Some((changed, _))) => {
                    let base = if end == End::Front { key < changed } else { key > changed };
                    if base { Whose::Base } else { Whose::Overlay }
                }
            };
            if !matches!(whose, Whose::Overlay) {
                let entry = self.take(end)?;
                if matches!(whose, Whose::Base) {
                    return Some(self.told(end, entry));
                }
            }
            let (key, change) = change?;
            self.pass(end, key.clone());
            if let Overlay::Set(value) = change {
                return Some(Ok((key, value)));
            }
        }
        None
    }

    /// The base's next entry, if it was not told from the other end.
    fn peek(&mut self, end: End) -> Option<&Entry<B::Error>> {
        let (base, bounds) = (&self.base, &self.bounds);
        let begin = || base.range(bounds.clone());
        let next = match end {
            End::Front => self.front.peek(begin),
            End::Back => self.back.peek(|| begin().rev()),
        };
        next.filter(|entry| entry.as_ref().map_or(true, |(key, _)| bounds.contains(key)))
    }

    fn take(&mut self, end: End) -> Option<Entry<B::Error>> {
        if end == End::Front { self.front.next.take() } else { self.back.next.take() }
    }

    fn told(&mut self, end: End, entry: Entry<B::Error>) -> Entry<B::Error> {
        let (key, value) = entry?;
        self.pass(end, key.clone());
        self.last = Some(key.clone());
        self.untrimmed += 1;
        if self.untrimmed >= TRIM {
            self.trim()?;
        }
        Ok((key, value))
    }

    fn trim(&mut self) -> Result<(), B::Error> {
        self.untrimmed = 0;
        self.last.take().map_or(Ok(()), |key| self.base.trim(&key))
    }

    fn pass(&mut self, end: End, key: Slice) {
        let (low, high) = &mut self.bounds;
        *(if end == End::Front { low } else { high }) = Excluded(key);
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

impl<B: Base> Drop for MergeIter<B> {
    fn drop(&mut self) {
        // A base that cannot trim its memory says so at the next read.
        drop(self.trim());
    }
}

fn key(bound: &Bound<Slice>) -> Option<&Slice> {
    match bound {
        Included(key) | Excluded(key) => Some(key),
        Unbounded => None,
    }
}

/// Whether a key may be within. A map cannot be asked for a range that goes backwards.
fn holds_any((low, high): &Bounds) -> bool {
    let (Some(first), Some(last)) = (key(low), key(high)) else { return true };
    first < last || (first == last && matches!((low, high), (Included(_), Included(_))))
}
