//! What this process has tried, and when it may try again.
//!
//! Owns the pauses after a post and after a refused removal. What has to outlive the process is the
//! history's.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::{
    altinn::subscriptions::{
        api::{Spec, SubscriptionId},
        plan::{Change, Fate, Plan, Posted, Stale},
    },
    backoff::Backoff,
    clock::Timestamp,
    name::HookName,
};

/// The attempts, by what they were for.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) posted: BTreeMap<HookName, Posted>,
    pub(super) pauses: BTreeMap<HookName, Pause>,
    /// How often a removal was refused, and when it may be tried again.
    pub(super) removals: BTreeMap<SubscriptionId, (u32, Instant)>,
    /// When the next replaced one may go.
    pub(super) over: Option<Instant>,
}

/// A name is not posted again before `until`, unless something else is wanted under it.
#[derive(Debug)]
pub(super) struct Pause {
    spec: Spec,
    times: u32,
    until: Instant,
}

impl Attempts {
    /// Drops what was kept about names that are not wanted or not missing any more, and notes when
    /// the next replaced one may go.
    pub(super) fn follow(&mut self, plan: &Plan, now: Timestamp) {
        let find = |name: &HookName| plan.changes.iter().find(|change| change.name == *name);
        self.posted.retain(|name, _| find(name).is_some());
        self.pauses.retain(|name, pause| {
            find(name).is_some_and(|change| change.action.is_post() && change.spec == pause.spec)
        });
        let stale = |id: SubscriptionId| plan.stale.iter().any(|stale| stale.id == id);
        self.removals.retain(|id, _| stale(*id));
        let later = plan.stale.iter().filter_map(|stale| match stale.fate {
            Fate::Keep { until } => until,
            Fate::Remove | Fate::Report => None,
        });
        self.over = later.min().map(|until| Instant::now() + until.since(now));
    }

    /// Whether it is too early to post it again.
    pub(super) fn is_paused(&self, change: &Change) -> bool {
        self.pauses.get(&change.name).is_some_and(|pause| Instant::now() < pause.until)
    }

    /// Begins the pause after a post. Success begins it, too: should Altinn's list never show what
    /// it took, it is asked ever less often.
    pub(super) fn pause(&mut self, change: &Change, retry: Backoff) {
        let times = self.pauses.get(&change.name).map_or(0, |pause| pause.times).saturating_add(1);
        let until = Instant::now() + retry.random_delay(times);
        let pause = Pause { spec: change.spec.clone(), times, until };
        self.pauses.insert(change.name.clone(), pause);
    }

    /// Whether a removal may be tried now; if so, the pause after it begins.
    pub(super) fn try_removal(&mut self, stale: &Stale, retry: Backoff) -> bool {
        let (times, until) = self.removals.get(&stale.id).copied().unwrap_or((0, Instant::now()));
        if Instant::now() < until {
            return false;
        }
        let times = times.saturating_add(1);
        let until = Instant::now() + retry.random_delay(times);
        self.removals.insert(stale.id, (times, until));
        true
    }

    /// Whether this removal has been tried once only.
    pub(super) fn is_first_removal(&self, stale: &Stale) -> bool {
        self.removals.get(&stale.id).is_some_and(|(times, _)| *times == 1)
    }

    /// When something may be tried again, or the next replaced one may go.
    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        let pauses = self.pauses.values().map(|pause| pause.until);
        let removals = self.removals.values().map(|(_, until)| *until);
        pauses.chain(removals).chain(self.over)
    }
}
