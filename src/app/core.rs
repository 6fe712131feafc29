//! What most tasks of the daemon need.

use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    altinn::feed::push_gap::PushGap, clock::Clock, config::Config, dispatch::unmatched::Unmatched,
    metrics::Metrics, queue::sled::SledQueue,
};

/// What most tasks need.
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) queue: SledQueue,
    pub(super) unmatched: Arc<Unmatched>,
    pub(super) watch: PushGap,
    pub(super) stopping: Arc<AtomicBool>,
}
