//! Commands for who looks after a running daemon and its subscriptions.

pub(super) mod dead_letters;
pub(super) mod events;
pub(super) mod handlers;
pub(super) mod status;
pub(super) mod subscriptions;
