//! What lies below the memtables: a sorted map on disk, to which sled's trees are one.

use std::ops::Bound;

/// A key or a value. Cheap to clone.
pub(crate) type Slice = sled::IVec;

/// From here to there.
pub(crate) type Bounds = (Bound<Slice>, Bound<Slice>);

/// An entry, or why it could not be read.
pub(crate) type Entry<E> = Result<(Slice, Slice), E>;

/// A sorted map that a checkpoint writes to. Only one thread writes; any read at any time.
pub(crate) trait Base {
    /// Why it did not do it.
    type Error;
    /// Reads entries from either end, without a snapshot: it sees later changes or not.
    type Iter: DoubleEndedIterator<Item = Entry<Self::Error>>;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Slice>, Self::Error>;

    /// The entries within these bounds, which lie in one tree: that of their beginning.
    fn range(&self, bounds: Bounds) -> Self::Iter;

    /// Sets a value, or removes it.
    fn change(&self, key: &[u8], value: Option<Slice>) -> Result<(), Self::Error>;
}
