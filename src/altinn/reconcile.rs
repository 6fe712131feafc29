//! Keeps the subscriptions at Altinn as configured, for as long as the daemon runs.
//!
//! Owns the when: the first look, the pace while a validation is awaited, the repetition, the
//! back-off. What to do is `plan`'s, doing it `look`'s. Stopping removes nothing: events keep coming
//! while brevdue restarts.

mod look;

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    api::{ApiError, Events, Spec, SubscriptionId},
    memory::{Held, Memory, MemoryError, MemoryFile},
    plan::{Desired, Posted},
    problem::Words,
    self_proof::{ProofError, SelfProof},
    state::State,
    token::TokenSource,
};
use crate::{
    backoff::{Backoff, InvalidBackoff},
    name::HookName,
};

/// What is wanted now: secrets can change while the daemon runs.
pub type DesiredFn = Arc<dyn Fn() -> Vec<Desired> + Send + Sync>;

/// Which codes are accepted now.
pub type HeldFn = Arc<dyn Fn() -> Vec<Held> + Send + Sync>;

/// Told of what is remembered, so that hooks and codes that are forgotten are not answered on.
pub type RememberedFn = Arc<dyn Fn(&Memory) + Send + Sync>;

/// This side of it.
pub struct Local {
    /// What is wanted.
    pub desired: DesiredFn,
    /// Which codes the hooks of what is wanted accept.
    pub held: HeldFn,
    /// Told after each look.
    pub remembered: RememberedFn,
    /// Hooks are under it.
    pub public_url: Url,
    /// How long a replaced subscription stays.
    pub overlap: Duration,
    /// What outlives the process.
    pub memory: MemoryFile,
    /// Asks our own endpoint first; not with `None`.
    pub proof: Option<SelfProof>,
}

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between looks when all is well; each is up to a tenth shorter or longer.
    pub interval: Duration,
    /// How long a validation may take before it is asked for again.
    pub patience: Duration,
    /// Between looks while a validation is awaited.
    pub watch: Backoff,
    /// After failures.
    pub retry: Backoff,
    /// Between a look and the next one when someone wakes us, at the least.
    pub gap: Duration,
}

impl Timing {
    /// All of it from `[altinn] reconcile_interval`: with "10m" validations are watched every 1 to
    /// 30 s and asked for again after 10 min, and failures retried after 1 s to 5 min.
    pub fn from_interval(interval: Duration) -> Result<Self, InvalidBackoff> {
        let part = |divisor: u32, at_most| (interval / divisor).min(Duration::from_secs(at_most));
        Ok(Self {
            interval,
            patience: interval,
            watch: Backoff::try_new(part(10, 1), part(2, 30), 2.0)?,
            retry: Backoff::try_new(part(10, 1), part(2, 300), 2.0)?,
            gap: part(100, 1).min(Duration::from_millis(100)),
        })
    }
}

/// Looks after the subscriptions. To be started when the hook endpoint listens.
pub struct Reconciler<T> {
    events: Events<T>,
    local: Local,
    timing: Timing,
    wake: Arc<Notify>,
    state: watch::Sender<State>,
    posted: BTreeMap<HookName, Posted>,
    pauses: BTreeMap<HookName, Pause>,
    /// How often a removal was refused, and when it may be tried again.
    removals: BTreeMap<SubscriptionId, (u32, Instant)>,
    /// When the next replaced one may go.
    over: Option<Instant>,
}

/// A name is not posted again before `until`, unless something else is wanted under it.
#[derive(Debug)]
struct Pause {
    spec: Spec,
    times: u32,
    until: Instant,
}

/// What a look at Altinn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing to wait for.
    Settled,
    /// Validations are awaited.
    Awaiting {
        /// And this look asked for one.
        asked: bool,
    },
}

/// When to look again.
#[derive(Debug, Clone, Copy)]
struct Next {
    due: Instant,
    /// Not even a wake-up makes it earlier.
    earliest: Instant,
}

/// How many in a row.
#[derive(Debug, Default)]
struct Streak {
    failures: u32,
    watches: u32,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("overlap", &self.overlap).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Reconciler<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler").field("timing", &self.timing).finish_non_exhaustive()
    }
}

impl<T: TokenSource> Reconciler<T> {
    /// Nothing is asked before [`Reconciler::run`].
    pub fn new(events: Events<T>, local: Local, timing: Timing) -> Self {
        Self {
            events,
            local,
            timing,
            wake: Arc::new(Notify::new()),
            state: watch::Sender::default(),
            posted: BTreeMap::new(),
            pauses: BTreeMap::new(),
            removals: BTreeMap::new(),
            over: None,
        }
    }

    /// To be notified when a validation event was answered, or a secret has changed: then there is
    /// reason to look at once.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// What is known.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Looks and posts until `stop`. Failures are waited out, however long they last.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // Cancelled in the middle of a call, nothing is lost: posting is idempotent.
        match stop.run_until_cancelled(self.look_for_ever()).await {
            None => Ok(()),
            Some(never) => match never {},
        }
    }

    async fn look_for_ever(&mut self) -> Infallible {
        let mut streak = Streak::default();
        loop {
            let looked = self.look().await;
            let next = self.next(looked.as_ref(), &mut streak);
            tokio::select! {
                () = sleep_until(next.due) => {}
                () = self.wake.notified() => {
                    streak.watches = 0;
                    sleep_until(next.earliest).await;
                }
            }
        }
    }

    fn next(&self, looked: Result<&Look, &LookError>, streak: &mut Streak) -> Next {
        let now = Instant::now();
        let Timing { interval, watch, retry, gap, .. } = self.timing;
        let look = match looked {
            Err(error) => {
                streak.failures = streak.failures.saturating_add(1);
                let asked = error.retry_after().unwrap_or_default();
                let wait = retry.delay(streak.failures, fastrand::f64()).max(asked);
                return Next { due: now + wait, earliest: now + asked.max(retry.delay(1, 1.0)) };
            }
            Ok(look) => *look,
        };
        streak.failures = 0;
        let wait = match look {
            Look::Settled => interval.mul_f64(0.9 + 0.2 * fastrand::f64()),
            Look::Awaiting { asked } => {
                streak.watches = if asked { 1 } else { streak.watches.saturating_add(1) };
                watch.delay(streak.watches, 1.0).min(interval)
            }
        };
        let pauses = self.pauses.values().map(|pause| pause.until);
        let removals = self.removals.values().map(|(_, until)| *until).chain(self.over);
        let due = pauses.chain(removals).fold(now + wait, Instant::min).max(now + gap);
        Next { due, earliest: now + gap }
    }
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Altinn(#[from] ApiError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl LookError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Altinn(error) => error.retry_after(),
            Self::Memory(_) | Self::Proof(_) => None,
        }
    }

    fn words(&self) -> Words {
        match self {
            Self::Altinn(error) => error.words(),
            Self::Memory(_) | Self::Proof(_) => Words::new(&self.to_string()),
        }
    }
}

impl Look {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Settled, other) | (other, Self::Settled) => other,
            (Self::Awaiting { asked: one }, Self::Awaiting { asked: two }) => {
                Self::Awaiting { asked: one || two }
            }
        }
    }
}

#[cfg(test)]
mod tests;
