//! The locks of the overlay, named in one place: the race test puts a scheduler's in their stead.

pub(crate) use std::sync::{Arc, PoisonError, RwLock};
