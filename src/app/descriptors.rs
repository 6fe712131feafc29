//! File descriptors: as many as the configuration can need, or fewer connections.
//!
//! A connection that strangers make must never take the descriptor that a handler, the store or the
//! admin API needs.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Handler, HandlerKind};

/// The runtime, the log, the store, the admin API and its clients, the calls to Altinn.
const OWN: u64 = 256;
/// What one delivery has open at most: the pipes of a command, a connection, a file.
const DELIVERY: u64 = 6;

/// What is done about the limit.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The soft limit to ask for, if it is to be raised.
    raise: Option<u64>,
    /// Connections at the hook endpoint.
    connections: u64,
}

/// Raises the soft limit of open files as far as it is needed, and says how many connections may
/// be had within it.
pub(super) fn prepare(config: &Config) -> NonZeroUsize {
    let wanted = config.server.max_connections;
    let others = others(config);
    let limit = getrlimit(Resource::Nofile);
    let mut plan = plan(u64::try_from(wanted.get()).unwrap_or(u64::MAX), others, limit);
    if let Some(soft) = plan.raise {
        let raised = Rlimit { current: Some(soft), maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => tracing::debug!(limit = soft, "raised the limit of open files"),
            Err(error) => {
                tracing::warn!(%error, limit = soft, "cannot raise the limit of open files");
                let fixed = Rlimit { current: limit.current, maximum: limit.current };
                plan = self::plan(plan.connections, others, fixed);
            }
        }
    }
    let connections = usize::try_from(plan.connections).ok().and_then(NonZeroUsize::new);
    let connections = connections.map_or(wanted, |connections| connections.min(wanted));
    if connections < wanted {
        tracing::warn!(
            max_connections = wanted.get(),
            connections,
            limit = limit.maximum.or(limit.current),
            "the limit of open files (EMFILE beyond it) allows fewer connections than \
             server.max_connections: raise it (LimitNOFILE of the unit, or ulimit -n)"
        );
    }
    connections
}

fn others(config: &Config) -> u64 {
    let deliveries = |handler: &Handler| {
        let at_once = match handler.kind {
            HandlerKind::File { .. } => 1,
            HandlerKind::Http { .. } | HandlerKind::Exec { .. } => handler.concurrency.get(),
        };
        DELIVERY * u64::try_from(at_once).unwrap_or(u64::MAX / DELIVERY)
    };
    let deliveries = config.handlers.values().map(deliveries);
    deliveries.fold(OWN, u64::saturating_add)
}

/// Connections that were told to end, and have not yet, have a descriptor, too.
fn with_spare(connections: u64) -> u64 {
    connections.saturating_add(connections / 8 + 1)
}

fn plan(wanted: u64, others: u64, limit: Rlimit) -> Plan {
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let needed = with_spare(wanted).saturating_add(others);
    let reached = needed.min(hard).max(soft);
    let raise = (reached > soft).then_some(reached);
    if reached >= needed {
        return Plan { raise, connections: wanted };
    }
    // Even a tiny limit leaves connections a quarter.
    let left = reached.saturating_sub(others).max(reached / 4);
    Plan { raise, connections: (left * 8 / 9).saturating_sub(1).clamp(1, wanted.max(1)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(soft: u64, hard: impl Into<Option<u64>>) -> Rlimit {
        Rlimit { current: Some(soft), maximum: hard.into() }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_connections_fit_into_the_rest() {
        for (wanted, others, limit, raise, connections) in [
            (1024, 300, limit(1024, 524_288), Some(1453), 1024),
            (1024, 300, limit(1024, None), Some(1453), 1024),
            (1024, 300, limit(16_384, 16_384), None, 1024),
            (1024, 300, limit(1024, 1024), None, 642),
            (1024, 300, limit(512, 1024), Some(1024), 642),
            (1024, 300, limit(256, 256), None, 55),
            (100_000, 300, limit(1024, 4096), Some(4096), 3373),
            (7, 300, limit(1024, 1024), None, 7),
        ] {
            assert_eq!(plan(wanted, others, limit), Plan { raise, connections }, "{limit:?}");
        }
    }

    proptest! {
        #[test]
        fn connections_never_take_what_others_need(
            wanted in 1u64..100_000, others in 0u64..5_000, soft in 1u64..200_000, more in 0u64..200_000,
        ) {
            let plan = plan(wanted, others, limit(soft, soft + more));
            let reached = plan.raise.unwrap_or(soft);
            prop_assert!(reached >= soft && reached <= soft + more);
            prop_assert!((1..=wanted).contains(&plan.connections));
            if others <= reached * 3 / 4 && reached > 64 {
                prop_assert!(with_spare(plan.connections) + others <= reached);
            }
        }
    }
}
