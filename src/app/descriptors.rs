//! File descriptors: as many as the configuration can need, or fewer connections and deliveries at once, or no start.
//!
//! A connection that strangers make must never take the descriptor that a handler, the store or the
//! admin API needs.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Handler, HandlerKind};

/// What the runtime, the signals, the log and the store have open at all times, and the store's next files.
const OWN_LEAST: u64 = 20;
/// Calls to Altinn and Maskinporten, a look at our own public URL, the names that are looked up for them.
const ALTINN: u64 = 6;
/// What is open for a moment: files that are read anew, the pipes of a command that is being started.
const MOMENTS: u64 = 6;
/// The least connections to each socket of the admin API.
const ADMIN_LEAST: u64 = 2;
/// The most.
const ADMIN_MOST: u64 = 64;
/// All that is not for a delivery or a connection at the hooks, where nothing is scarce.
const OWN: u64 = 256;
/// What one delivery has open at most: the pipes of a command, a connection, a file.
const DELIVERY: u64 = 6;
/// What no configuration can do without: one address for hooks, one socket for the admin API, one handler.
pub const LEAST: u64 = OWN_LEAST + 2 + with_spare(ADMIN_LEAST) + DELIVERY + with_spare(1) + MOMENTS;

/// The system does not let this process have as many files open as it needs at least.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {least} is the least that is needed here{}: raise it \
     (LimitNOFILE of the unit, or ulimit -n)",
    parts(*.of)
)]
pub struct TooFewFiles {
    /// What may be open, and cannot be made more from here.
    limit: u64,
    /// What is needed.
    least: u64,
    /// What for, as far as it is known.
    of: Option<Needs>,
}

/// What a configuration wants to have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// Sockets that are listened on.
    listeners: u64,
    /// Those of them that are the admin API's.
    admin: u64,
    /// Whether Altinn is called.
    altinn: bool,
    handlers: u64,
    /// Deliveries at the same time, of all handlers.
    deliveries: u64,
    /// Connections at the hook endpoint.
    connections: u64,
}

/// What is done about the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The soft limit to ask for, if it is to be raised.
    raise: Option<u64>,
    /// Connections at the hook endpoint.
    connections: u64,
    /// Connections to each socket of the admin API.
    admin: u64,
    /// Deliveries at the same time beside one of each handler; fewer than are wanted where they are scarce.
    more_deliveries: u64,
}

/// What may be had at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Connections at the hook endpoint.
    pub(super) connections: NonZeroUsize,
    /// Connections to each socket of the admin API.
    pub(super) admin: NonZeroUsize,
    /// Deliveries beside the first of each handler: those that may be, of those that are wanted.
    more_deliveries: (u64, u64),
}

/// Lets this process have `least` files open; an error if the system does not.
pub fn raise_to(least: u64) -> Result<(), TooFewFiles> {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= least {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(least), maximum: limit.maximum };
    if hard >= least && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(TooFewFiles { limit: hard.min(least - 1), least, of: None })
}

/// Raises the soft limit of open files as far as it is needed, and says what may be had within it.
pub(super) fn prepare(config: &Config) -> Result<Room, TooFewFiles> {
    let needs = Needs::of(config);
    let limit = getrlimit(Resource::Nofile);
    let mut plan = needs.plan(limit)?;
    if let Some(soft) = plan.raise {
        let raised = Rlimit { current: Some(soft), maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => tracing::debug!(limit = soft, "raised the limit of open files"),
            Err(error) => {
                tracing::warn!(%error, limit = soft, "cannot raise the limit of open files");
                plan = needs.plan(Rlimit { current: limit.current, maximum: limit.current })?;
            }
        }
    }
    let wanted = config.server.max_connections;
    let room = Room {
        connections: number(plan.connections).min(wanted),
        admin: number(plan.admin),
        more_deliveries: (plan.more_deliveries, needs.deliveries - needs.handlers),
    };
    if room.connections < wanted || plan.more_deliveries < room.more_deliveries.1 {
        tracing::warn!(
            max_connections = wanted.get(),
            connections = room.connections.get(),
            wanted_deliveries = needs.deliveries,
            deliveries = needs.handlers + plan.more_deliveries,
            limit = limit.maximum.or(limit.current),
            "the limit of open files (EMFILE beyond it) allows fewer connections or deliveries at once \
             than server.max_connections and the handlers' concurrency: raise it (LimitNOFILE of the \
             unit, or ulimit -n)"
        );
    }
    Ok(room)
}

fn number(some: u64) -> NonZeroUsize {
    usize::try_from(some).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// Connections that were told to end, and have not yet, have a descriptor, too.
const fn with_spare(connections: u64) -> u64 {
    connections.saturating_add(connections / 8 + 1)
}

/// Deliveries of a handler at the same time that have descriptors of their own.
fn at_once(handler: &Handler) -> u64 {
    match handler.kind {
        HandlerKind::File { .. } => 1,
        HandlerKind::Http { .. } | HandlerKind::Exec { .. } => {
            u64::try_from(handler.concurrency.get()).unwrap_or(u64::MAX)
        }
    }
}

fn parts(needs: Option<Needs>) -> String {
    let Some(Needs { listeners, handlers, .. }) = needs else { return String::new() };
    format!(" (for {listeners} listeners, {handlers} handlers, the store, and one connection)")
}

impl Room {
    /// How many deliveries of a handler may be at the same time.
    pub(super) fn deliveries(&self, handler: &Handler) -> NonZeroUsize {
        let (may_be, wanted) = self.more_deliveries;
        if may_be >= wanted {
            return handler.concurrency;
        }
        let share = (at_once(handler) - 1).saturating_mul(may_be) / wanted.max(1);
        number(1 + share).min(handler.concurrency)
    }
}

impl Needs {
    fn of(config: &Config) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let admin = 1 + u64::from(config.admin.listen.is_some());
        Self {
            listeners: count(config.server.listen.len()) + admin,
            admin,
            altinn: config.altinn.is_some(),
            handlers: count(config.handlers.len()),
            deliveries: config.handlers.values().map(at_once).fold(0, u64::saturating_add),
            connections: count(config.server.max_connections.get()),
        }
    }

    /// With one connection, and one delivery of each handler.
    fn least(&self) -> u64 {
        let admin = self.admin * with_spare(ADMIN_LEAST);
        let altinn = if self.altinn { ALTINN } else { 0 };
        let deliveries = DELIVERY * self.handlers.max(1);
        OWN_LEAST + self.listeners + admin + altinn + deliveries + with_spare(1) + MOMENTS
    }

    /// All but the connections at the hooks, where nothing is scarce.
    fn others(&self) -> u64 {
        OWN.saturating_add(self.listeners).saturating_add(self.deliveries.saturating_mul(DELIVERY))
    }

    fn plan(&self, limit: Rlimit) -> Result<Plan, TooFewFiles> {
        let soft = limit.current.unwrap_or(u64::MAX);
        let hard = limit.maximum.unwrap_or(u64::MAX);
        let needed = with_spare(self.connections).saturating_add(self.others());
        let reached = needed.min(hard).max(soft);
        let raise = (reached > soft).then_some(reached);
        let wanted = self.deliveries.saturating_sub(self.handlers);
        if reached >= needed {
            let (connections, admin) = (self.connections, ADMIN_MOST);
            return Ok(Plan { raise, connections, admin, more_deliveries: wanted });
        }
        let least = self.least();
        let Some(more) = reached.checked_sub(least) else {
            return Err(TooFewFiles { limit: reached, least, of: Some(*self) });
        };
        // Even where deliveries could take all of it, connections have a third of what is not needed at least.
        let left = reached.saturating_sub(self.others()).max(with_spare(1) + more / 3);
        let connections = (left * 8 / 9).saturating_sub(1).clamp(1, self.connections.max(1));
        let admin = (ADMIN_LEAST + more / 16).min(ADMIN_MOST);
        let taken = with_spare(connections) - with_spare(1)
            + self.admin * (with_spare(admin) - with_spare(ADMIN_LEAST));
        let more_deliveries = (more.saturating_sub(taken) / DELIVERY).min(wanted);
        Ok(Plan { raise, connections, admin, more_deliveries })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(soft: u64, hard: impl Into<Option<u64>>) -> Rlimit {
        Rlimit { current: Some(soft), maximum: hard.into() }
    }

    fn needs(connections: u64, deliveries: u64) -> Needs {
        Needs { listeners: 2, admin: 1, altinn: true, handlers: 2, deliveries, connections }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_all_else_fits_into_the_rest() {
        for (wanted, limit, raise, connections, admin, more_deliveries) in [
            (1024, limit(1024, 524_288), Some(1471), 1024, 64, 8),
            (1024, limit(1024, None), Some(1471), 1024, 64, 8),
            (1024, limit(16_384, 16_384), None, 1024, 64, 8),
            (1024, limit(1024, 1024), None, 626, 62, 8),
            (1024, limit(512, 1024), Some(1024), 626, 62, 8),
            (1024, limit(256, 256), None, 61, 14, 8),
            (1024, limit(64, 64), None, 4, 2, 1),
            (100_000, limit(1024, 4096), Some(4096), 3357, 64, 8),
            (7, limit(1024, 1024), None, 7, 64, 8),
        ] {
            let plan = needs(wanted, 10).plan(limit);
            let expected = Plan { raise, connections, admin, more_deliveries };
            assert_eq!(plan, Ok(expected), "{limit:?}");
        }
    }

    #[test]
    fn below_the_least_there_is_no_start_and_the_cure_is_told() {
        let needs = needs(1024, 10);
        let least = needs.least();
        assert!(needs.plan(limit(least, least)).is_ok());
        let fault = needs.plan(limit(12, least - 1)).unwrap_err();
        assert_eq!(
            fault.to_string(),
            format!(
                "the limit of open files is {}, and {least} is the least that is needed here (for 2 \
                 listeners, 2 handlers, the store, and one connection): raise it (LimitNOFILE of the \
                 unit, or ulimit -n)",
                least - 1
            )
        );
        let any = Needs { altinn: false, handlers: 0, deliveries: 0, ..needs };
        assert_eq!(any.least(), LEAST);
    }

    #[test]
    fn scarce_deliveries_are_shared_and_each_handler_has_one() {
        let text = "[server]\npublic_url = \"https://a.no\"\ntls = \"off\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                    [handlers.a]\nkind = \"exec\"\ncommand = [\"/bin/true\"]\nconcurrency = 9\n\
                    [handlers.b]\nkind = \"exec\"\ncommand = [\"/bin/true\"]\nconcurrency = 1\n";
        let config = Config::from_toml(text, "/".as_ref(), &std::collections::BTreeMap::new());
        let config = config.unwrap();
        for (more, expected) in [((8, 8), [9, 1]), ((4, 8), [5, 1]), ((0, 8), [1, 1])] {
            let one = NonZeroUsize::MIN;
            let room = Room { connections: one, admin: one, more_deliveries: more };
            let have = config.handlers.values().map(|handler| room.deliveries(handler).get());
            assert_eq!(have.collect::<Vec<_>>(), expected, "{more:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_takes_what_others_need(
            (wanted, handlers, each) in (1u64..100_000, 0u64..20, 1u64..200),
            (soft, more) in (1u64..20_000, 0u64..20_000),
            tcp in any::<bool>(),
        ) {
            let admin = 1 + u64::from(tcp);
            let needs = Needs {
                listeners: 1 + admin,
                admin,
                altinn: true,
                handlers,
                deliveries: handlers * each,
                connections: wanted,
            };
            let reachable = soft + more;
            let Ok(plan) = needs.plan(limit(soft, reachable)) else {
                prop_assert!(reachable < needs.least());
                return Ok(());
            };
            let reached = plan.raise.unwrap_or(soft);
            prop_assert!(reached >= soft && reached <= reachable);
            prop_assert!((1..=wanted).contains(&plan.connections));
            prop_assert!((ADMIN_LEAST..=ADMIN_MOST).contains(&plan.admin));
            prop_assert!(plan.more_deliveries <= needs.deliveries - handlers);
            let open = needs.least() - with_spare(1) + with_spare(plan.connections)
                + admin * (with_spare(plan.admin) - with_spare(ADMIN_LEAST))
                + plan.more_deliveries * DELIVERY;
            prop_assert!(open <= reached, "{open} of {reached}: {plan:?}");
        }
    }
}
