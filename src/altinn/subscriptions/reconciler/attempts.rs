//! What this process has tried, and when it may try again.
//!
//! Owns the pauses after a post and after a removal. What has to outlive the process is the
//! history's.

use std::{collections::BTreeMap, time::Duration};

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
    pub(super) pauses: BTreeMap<HookName, (Spec, Pause)>,
    pub(super) removals: BTreeMap<SubscriptionId, Pause>,
    /// When the next replaced one may go.
    pub(super) over: Option<Instant>,
}

/// A step is not tried again before `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    times: u32,
    until: Instant,
    /// Whether the end of the pause is a reason to look.
    awaited: bool,
}

impl Pause {
    /// After the first attempt, or one more.
    fn after(last: Option<Self>, retry: Backoff) -> Self {
        let times = last.map_or(0, |last| last.times).saturating_add(1);
        Self { times, until: Instant::now() + retry.random_delay(times), awaited: true }
    }

    fn holds(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether it is long over. A pause outlives the wish for its step, because Altinn's lists may
    /// say one thing and then another: only time makes the next attempt a first one.
    fn is_history(&self, longest: Duration) -> bool {
        Instant::now() >= self.until + longest
    }
}

impl Attempts {
    /// Follows what is wanted now: drops what nobody asks about any more, and notes which pauses
    /// something waits for, and when the next replaced one may go.
    pub(super) fn follow(&mut self, plan: &Plan, now: Timestamp, retry: Backoff) {
        let find = |name: &HookName| plan.changes.iter().find(|change| change.name == *name);
        let longest = retry.max();
        self.posted.retain(|name, _| find(name).is_some());
        self.pauses.retain(|name, (spec, pause)| {
            let wanted = find(name).filter(|change| change.spec == *spec);
            pause.awaited = wanted.is_some_and(|change| change.action.is_post());
            wanted.is_some() && (pause.awaited || !pause.is_history(longest))
        });
        self.removals.retain(|id, pause| {
            let stale = plan.stale.iter().find(|stale| stale.id == *id);
            pause.awaited = stale.is_some_and(|stale| stale.fate == Fate::Remove);
            pause.awaited || !pause.is_history(longest)
        });
        let later = plan.stale.iter().filter_map(|stale| match stale.fate {
            Fate::Keep { until } => until,
            Fate::Remove | Fate::Report => None,
        });
        self.over = later.min().map(|until| Instant::now() + until.since(now));
    }

    /// Whether it is too early to post it again.
    pub(super) fn is_paused(&self, change: &Change) -> bool {
        self.paused(change).is_some_and(|pause| pause.holds())
    }

    fn paused(&self, change: &Change) -> Option<Pause> {
        let (spec, pause) = self.pauses.get(&change.name)?;
        (*spec == change.spec).then_some(*pause)
    }

    /// Begins the pause after a post. Success begins it, too: should Altinn's list never show what
    /// it took, it is asked ever less often.
    pub(super) fn pause(&mut self, change: &Change, retry: Backoff) {
        let pause = Pause::after(self.paused(change), retry);
        self.pauses.insert(change.name.clone(), (change.spec.clone(), pause));
    }

    /// Whether a removal may be tried now; if so, the pause after it begins.
    pub(super) fn try_removal(&mut self, stale: &Stale, retry: Backoff) -> bool {
        let last = self.removals.get(&stale.id).copied();
        if last.is_some_and(|pause| pause.holds()) {
            return false;
        }
        self.removals.insert(stale.id, Pause::after(last, retry));
        true
    }

    /// It is gone, as Altinn says. Should its list still show it, the pause goes on.
    pub(super) fn removed(&mut self, stale: &Stale) {
        if let Some(pause) = self.removals.get_mut(&stale.id) {
            pause.awaited = false;
        }
    }

    /// Whether this removal has been tried once only.
    pub(super) fn is_first_removal(&self, stale: &Stale) -> bool {
        self.removals.get(&stale.id).is_some_and(|pause| pause.times == 1)
    }

    /// When something that is still wanted may be tried again, or the next replaced one may go.
    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        let pauses = self.pauses.values().map(|(_, pause)| pause).chain(self.removals.values());
        pauses.filter(|pause| pause.awaited).map(|pause| pause.until).chain(self.over)
    }
}
