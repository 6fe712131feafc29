//! The scheduler's locks, under the names that `src/store/overlay/sync.rs` has.

pub(super) use std::sync::PoisonError;

pub(super) use shuttle::sync::{Arc, RwLock};
