//! Altinn's other services, as much of them as a client's checks ask for.

pub(super) mod correspondence;
pub(super) mod registry;
pub(super) mod vendor;
