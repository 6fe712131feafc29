//! One pass over the subscriptions: list, compare, remember, execute.
//!
//! Owns the order. Everything is remembered before it is done, so that a process that dies between
//! two steps finds its way on from what Altinn then has.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{attempts::Attempts, timing::Timing};
use crate::{
    altinn::{
        auth::token::TokenSource,
        events_api::{ApiError, EventsApi},
        http::error_text::ErrorText,
        subscriptions::{
            api::Observed,
            executor::{self, Progress},
            history::History,
            history_file::HistoryError,
            local::Local,
            plan::{Action, Change, Context, Plan, Posted, Stale, plan},
            public_url_probe::ProbeError,
            status::Status,
        },
    },
    clock::Clock,
    metrics::Metrics,
};

/// What is left to wait for after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// There is nothing to wait for.
    Settled,
    /// Validations are awaited.
    Awaiting {
        /// This pass asked for one.
        asked: bool,
    },
}

impl Outlook {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Settled, other) | (other, Self::Settled) => other,
            (Self::Awaiting { asked: one }, Self::Awaiting { asked: two }) => {
                Self::Awaiting { asked: one || two }
            }
        }
    }
}

/// Why a pass came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Altinn(#[from] ApiError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl PassError {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Altinn(error) => error.retry_after(),
            Self::History(_) | Self::Probe(_) => None,
        }
    }

    fn text(&self) -> ErrorText {
        match self {
            Self::Altinn(error) => error.text(),
            Self::History(_) | Self::Probe(_) => ErrorText::new(&self.to_string()),
        }
    }
}

/// Both sides, and what is known of them from pass to pass.
pub(super) struct Upkeep<T> {
    pub(super) events: EventsApi<T>,
    pub(super) local: Local,
    pub(super) timing: Timing,
    pub(super) status: watch::Sender<Status>,
    pub(super) attempts: Attempts,
}

impl<T> fmt::Debug for Upkeep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").field("timing", &self.timing).finish_non_exhaustive()
    }
}

impl<T: TokenSource> Upkeep<T> {
    pub(super) async fn pass(&mut self) -> Result<Outlook, PassError> {
        let passed = self.compare_and_act().await;
        let failure = passed.as_ref().err().map(PassError::text);
        self.status.send_modify(|status| match failure {
            Some(text) => status.failed(text),
            None => status.succeeded(),
        });
        passed
    }

    async fn compare_and_act(&mut self) -> Result<Outlook, PassError> {
        let desired = (self.local.desired)();
        let observed: Arc<[Observed]> = self.events.list().await?.into();
        let now = self.events.clock().now();
        let history = self.local.observe(&observed, now).await?;
        let context = Context {
            public_url: &self.local.public_url,
            now,
            patience: self.timing.patience,
            posted: &self.attempts.posted,
            created_counts: false,
            history: &history,
            overlap: self.local.overlap,
            adopt: false,
        };
        let plan = plan(&desired, &observed, &context);
        self.status.send_modify(|status| status.observe(&plan, now, self.events.metrics()));
        self.attempts.follow(&plan, now, self.timing.retry);
        self.prepare(&plan, &history).await?;
        let events = self.events.clone();
        let mut paced = self.paced(awaited(&plan));
        let executed = executor::execute(&events, &plan, &mut paced).await;
        let outlook = paced.outlook;
        executed?;
        Ok(outlook)
    }

    /// Before the first post: our endpoint is proven, and it is remembered what is asked.
    async fn prepare(&mut self, plan: &Plan, history: &History) -> Result<(), PassError> {
        let posts = executor::posts(plan, &self.paced(Outlook::Settled));
        if posts.is_empty() {
            return Ok(());
        }
        if let Some(probe) = &mut self.local.probe {
            probe.prove().await?;
        }
        self.local.note_asked(history, &posts).await?;
        Ok(())
    }

    fn paced(&mut self, outlook: Outlook) -> Paced<'_> {
        Paced {
            attempts: &mut self.attempts,
            timing: self.timing,
            status: &self.status,
            clock: self.events.clock().clone(),
            metrics: self.events.metrics().clone(),
            outlook,
        }
    }
}

/// Before any step.
fn awaited(plan: &Plan) -> Outlook {
    let waits = |change: &Change| matches!(change.action, Action::Wait(_));
    if plan.changes.iter().any(waits) {
        Outlook::Awaiting { asked: false }
    } else {
        Outlook::Settled
    }
}

/// Steps with pauses between attempts, told in the status.
struct Paced<'u> {
    attempts: &'u mut Attempts,
    timing: Timing,
    status: &'u watch::Sender<Status>,
    clock: Clock,
    metrics: Metrics,
    outlook: Outlook,
}

impl Progress for Paced<'_> {
    fn may_post(&self, change: &Change) -> bool {
        !self.attempts.is_paused(change)
    }

    fn posting(&mut self, change: &Change) {
        self.attempts.pause(change, self.timing.retry);
    }

    fn posted(&mut self, change: &Change, answer: Result<&Observed, &ApiError>) {
        let now = self.clock.now();
        let told = answer.map(|row| (row.id, row.validated));
        self.status.send_modify(|status| status.posted(&change.name, told, now, &self.metrics));
        if let Ok(row) = answer {
            let posted = Posted { id: row.id, spec: change.spec.clone(), at: now };
            self.attempts.posted.insert(change.name.clone(), posted);
            // Only a list begins an overlap, so even a validated one is looked at again.
            self.outlook = self.outlook.and(Outlook::Awaiting { asked: true });
        }
    }

    fn may_remove(&mut self, stale: &Stale) -> bool {
        self.attempts.try_removal(stale, self.timing.retry)
    }

    fn removed(&mut self, stale: &Stale, answer: Result<(), &ApiError>) {
        match answer {
            Ok(()) => {
                self.status.send_modify(|status| status.removed(stale));
                self.attempts.removed(stale);
            }
            Err(error) if error.concerns_one() && self.attempts.is_first_removal(stale) => {
                tracing::warn!(id = %stale.id, hook = stale.name, "cannot remove a subscription: {error}");
            }
            Err(_) => {}
        }
    }
}
