//! Keeps the subscriptions at Altinn as configured, for as long as the daemon runs.
//!
//! Owns the when: the first pass, the pace while a validation is awaited, the repetition, the
//! back-off. What a pass does is `pass`'s. Stopping removes nothing: events keep coming while brevdue
//! restarts.

mod attempts;
mod pass;
pub mod timing;

use std::{convert::Infallible, sync::Arc};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    attempts::Attempts,
    pass::{Outlook, PassError, Upkeep},
    timing::Timing,
};
use super::{local::Local, status::Status};
use crate::{
    altinn::{auth::token::TokenSource, budget::Budget, events_api::EventsApi},
    backoff::spread,
};

/// Looks that may follow each other as quickly as they are wanted.
const BURST: u32 = 20;

/// Looks after the subscriptions. To be started when the hook endpoint listens.
#[derive(Debug)]
pub struct Reconciler<T> {
    upkeep: Upkeep<T>,
    budget: Budget,
    wake: Arc<Notify>,
}

/// When the next pass is.
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

impl<T: TokenSource> Reconciler<T> {
    /// Nothing is asked before [`Reconciler::run`].
    pub fn new(events: EventsApi<T>, local: Local, timing: Timing) -> Self {
        let (status, attempts) = (watch::Sender::default(), Attempts::default());
        let upkeep = Upkeep { events, local, timing, status, attempts };
        Self { upkeep, budget: Budget::new(BURST, timing.floor), wake: Arc::new(Notify::new()) }
    }

    /// To be notified when a validation event was answered, or a secret has changed: then there is
    /// reason to look at once.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// What is known.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.upkeep.status.subscribe()
    }

    /// Passes until `stop`. Failures are waited out, however long they last.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // Cancelled in the middle of a call, nothing is lost: posting is idempotent.
        match stop.run_until_cancelled(self.pass_for_ever()).await {
            None => Ok(()),
            Some(never) => match never {},
        }
    }

    async fn pass_for_ever(&mut self) -> Infallible {
        let mut streak = Streak::default();
        loop {
            let next = self.pass(&mut streak).await;
            tokio::select! {
                () = sleep_until(next.due) => {}
                () = self.wake.notified() => {
                    streak.watches = 0;
                    sleep_until(next.earliest).await;
                }
            }
        }
    }

    async fn pass(&mut self, streak: &mut Streak) -> Next {
        let passed = self.upkeep.pass().await;
        let Next { due, earliest } = self.next(passed.as_ref(), streak);
        let floor = self.budget.take();
        Next { due: due.max(floor), earliest: earliest.max(floor) }
    }

    fn next(&self, passed: Result<&Outlook, &PassError>, streak: &mut Streak) -> Next {
        let now = Instant::now();
        let Timing { interval, watch, retry, gap, .. } = self.upkeep.timing;
        let outlook = match passed {
            Err(error) => {
                streak.failures = streak.failures.saturating_add(1);
                let asked = error.retry_after().unwrap_or_default();
                let wait = retry.random_delay(streak.failures).max(asked);
                return Next { due: now + wait, earliest: now + asked.max(retry.delay(1, 1.0)) };
            }
            Ok(outlook) => *outlook,
        };
        streak.failures = 0;
        let wait = match outlook {
            Outlook::Settled => spread(interval),
            Outlook::Awaiting { asked } => {
                streak.watches = if asked { 1 } else { streak.watches.saturating_add(1) };
                watch.delay(streak.watches, 1.0).min(interval)
            }
        };
        let due = self.upkeep.attempts.due().fold(now + wait, Instant::min).max(now + gap);
        Next { due, earliest: now + gap }
    }
}

#[cfg(test)]
mod tests;
