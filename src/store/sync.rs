//! The locks of the overlay, named in one place: the race test puts a scheduler's in their stead.

pub(super) use std::sync::{Arc, PoisonError, RwLock};
