//! What one commit changes: entries that are set and entries that are removed, in order.

use std::collections::HashSet;

/// A key, and its new value or its end.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// The changes of one commit. A later change of a key replaces an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch(pub(super) Vec<Change>);

impl Batch {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets an entry.
    pub(crate) fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.0.push((key.into(), Some(value)));
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.0.push((key.into(), None));
    }

    /// Adds the changes of another batch behind its own.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Drops changes that a later one replaces.
    pub(super) fn keep_last_of_each(&mut self) {
        let mut seen = HashSet::new();
        self.0.reverse();
        self.0.retain(|(key, _)| seen.insert(key.clone()));
        self.0.reverse();
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
