//! Reading the store: the memtables over sled's trees.

use std::ops::{Bound, RangeBounds};

use super::{
    batch::Batch,
    error::Error,
    overlay::{
        base::Slice,
        memtable::{Change, Memtable},
        merge_iter::{self, MergeIter},
        sync::Arc,
    },
    trees::{StoreId, Trees},
};

/// What is in the store. Clones see the same; the files are held open as long as one lives.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(super) trees: Trees,
    pub(super) memtable: Arc<Memtable>,
}

/// Entries of a range.
pub(crate) type Range = MergeIter<Trees>;

impl View {
    /// Over these trees, with these commits in memory.
    pub(super) fn over(trees: Trees, commits: Vec<Batch>) -> Self {
        let memtable = Memtable::default();
        memtable.apply(commits.into_iter().flat_map(changes));
        Self { trees, memtable: Arc::new(memtable) }
    }

    /// The value of a key. A chunked one is a stub: see [`chunked::whole`](super::chunked::whole).
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        merge_iter::get(&self.memtable, &self.trees, key)
    }

    /// Entries whose keys begin with the same byte, from either end.
    pub(crate) fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        let own = |bound: Bound<&K>| bound.map(|key| Slice::from(key.as_ref()));
        let bounds = (own(range.start_bound()), own(range.end_bound()));
        MergeIter::new(&self.memtable, self.trees.clone(), bounds)
    }

    /// Entries whose keys have this prefix, which is not empty.
    pub(crate) fn scan_prefix(&self, prefix: &[u8]) -> Range {
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        self.range((Bound::Included(prefix.to_vec()), end))
    }

    /// The store's id, if it has one.
    pub(crate) fn store_id(&self) -> Result<Option<StoreId>, Error> {
        self.trees.store_id()
    }

    /// Every entry, of a store that nobody writes to: the trees' first, with what lies over them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<(Slice, Slice), Error>> {
        let changed = self.memtable.all();
        let rest = self
            .trees
            .entries()
            .filter(|entry| !entry.as_ref().is_ok_and(|(key, _)| self.memtable.get(key).is_some()));
        rest.chain(changed.into_iter().map(Ok))
    }

    /// Whether values with this key may be chunked.
    pub(super) fn may_be_chunked(&self, key: &[u8]) -> bool {
        key.first().is_some_and(|first| self.trees.layout.chunked.contains(first))
    }
}

/// Changes as a memtable takes them.
pub(super) fn changes(batch: Batch) -> impl Iterator<Item = (Slice, Change)> {
    batch.0.into_iter().map(|(key, value)| (key.into(), value.map(Into::into)))
}
