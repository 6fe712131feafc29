//! The reading side: deliveries, listings, the census. Nothing here writes.

pub(super) mod census;
mod groups;
pub(super) mod listing;
pub(super) mod take;
