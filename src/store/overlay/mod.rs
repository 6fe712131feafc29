//! The memtables, and how they overlay what is below them.
//!
//! Owns what a reader sees while changes move from memory to disk. Knows no file and no sled: what
//! is below is a `base::Base`, so that a test can put the locks and the base of a scheduler in.

pub(crate) mod base;
pub(crate) mod memtable;
pub(crate) mod merge_iter;
pub(crate) mod sync;
