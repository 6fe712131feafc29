//! Dispatch: takes deliveries for one handler, delivers them, and settles them.
//!
//! Owns the loop, the bound on deliveries at the same time, and the time-out of each. What is
//! delivered to whom is [`filter`]'s, when it is tried again is [`policy`]'s, when a failing store
//! is asked again is `pause`'s, and how it is delivered is the handler's.

pub mod filter;
mod pause;
pub mod policy;
pub mod unmatched;

use std::{
    borrow::Cow, num::NonZeroUsize, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    filter::Filter,
    pause::{Pause, Step},
    policy::{Decision, Ended, Tried},
};
use crate::{
    clock::Clock,
    config::{self, Retry},
    event::{Arrival, Origin},
    handler::{Attempt, Handler},
    log_lines::masked,
    metrics::{HandlerLabels, Metrics, OutcomeLabels},
    name::HandlerName,
    queue::{Delivery, Queue, QueueError, StoredEvent, Verdict},
};

/// Delivers the events of one handler.
#[derive(Clone)]
pub struct Dispatcher<Q> {
    /// Whose place in the log it is.
    pub name: HandlerName,
    /// Where deliveries come from.
    pub queue: Q,
    /// Where they go.
    pub handler: Arc<dyn Handler>,
    /// Which of them go there; the others are done at once.
    pub filter: Filter,
    /// How they are tried.
    pub limits: Limits,
    /// For the age of a delivery.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

/// How a handler's deliveries are tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For one attempt.
    pub timeout: Duration,
    /// Attempts at the same time.
    pub concurrency: NonZeroUsize,
    /// When to try again, and when no more.
    pub retry: Retry,
}

/// How a delivery's task ended: with the queue's answer to its verdict.
type Settled = Result<Step, QueueError>;

/// Counts a delivery as in flight for as long as it lives, also when it is aborted.
struct InFlight(Metrics, HandlerLabels);

impl Limits {
    /// As configured.
    pub fn new(handler: &config::Handler) -> Self {
        let config::Handler { timeout, concurrency, retry, .. } = *handler;
        Self { timeout, concurrency, retry }
    }
}

impl<Q: Queue> Dispatcher<Q> {
    /// Delivers until `stop`; then takes no more, and ends when what is in flight is settled.
    ///
    /// How long that may take is the caller's to bound: dropped, it aborts what is in flight. A
    /// store that does not work is asked again with back-off, for it heals itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), QueueError> {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        let ended = this.work(&stop, &mut tasks).await;
        while let Some(joined) = tasks.join_next().await {
            // Not settled is not lost: its lease is free again, and it is delivered once more.
            drop(this.settled(joined));
        }
        match ended {
            Err(QueueError::Closed) if stop.is_cancelled() => Ok(()),
            ended => ended,
        }
    }

    async fn work(
        self: &Arc<Self>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<Settled>,
    ) -> Result<(), QueueError> {
        let mut pause = Pause::new();
        // Kept while deliveries complete: dropped, it would read its record again from the start.
        let mut taking = pin!(self.take(None));
        loop {
            let room = tasks.len() < self.limits.concurrency.get();
            let (ended, answered) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(joined) = tasks.join_next() => (self.settled(joined), false),
                taken = taking.as_mut(), if room => (self.begin(taken, tasks).await, true),
            };
            if pause.after(ended)? || answered {
                taking.set(self.take(pause.until()));
            }
            // A long row of events that are not ours must not keep the thread from other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn begin(
        self: &Arc<Self>,
        taken: Result<Delivery<Q::Receipt>, QueueError>,
        tasks: &mut JoinSet<Settled>,
    ) -> Settled {
        match taken {
            Ok(delivery) => self.start(delivery, tasks).await,
            Err(error) => {
                tracing::warn!(handler = %self.name, %error, "cannot take deliveries");
                Err(error)
            }
        }
    }

    async fn take(&self, not_before: Option<Instant>) -> Result<Delivery<Q::Receipt>, QueueError> {
        if let Some(instant) = not_before {
            sleep_until(instant).await;
        }
        self.queue.take(&self.name).await
    }

    /// Starts what matches; what does not is done.
    async fn start(
        self: &Arc<Self>,
        delivery: Delivery<Q::Receipt>,
        tasks: &mut JoinSet<Settled>,
    ) -> Settled {
        if !self.filter.matches(&delivery.stored) {
            return self.settle(delivery.receipt, Verdict::Done).await;
        }
        let in_flight = InFlight::new(&self.metrics, HandlerLabels::new(&self.name));
        let this = self.clone();
        tasks.spawn(async move {
            let settled = this.attempt(delivery).await;
            drop(in_flight);
            settled
        });
        Ok(Step::Started)
    }

    async fn attempt(&self, delivery: Delivery<Q::Receipt>) -> Settled {
        let Delivery { stored, attempt, since, receipt } = delivery;
        let began = Instant::now();
        let ended = self.deliver(&stored, attempt).await;
        let age = self.clock.vouched_now().map(|now| now.since(since));
        let tried = Tried { attempt, age, jitter: fastrand::f64() };
        let decision = policy::verdict(ended, tried, &self.limits.retry);
        self.tell(&stored, attempt, began.elapsed(), &decision);
        self.settle(receipt, decision.verdict).await
    }

    async fn deliver(&self, stored: &StoredEvent, number: u32) -> Ended {
        let key = Arrival::idempotency_key(&stored.origin, stored.event.attributes());
        let attempt = Attempt { stored, number, idempotency_key: &key };
        // Made inside the future, so that a panic before the handler's first await is caught too.
        let outcome = AssertUnwindSafe(async { self.handler.deliver(attempt).await });
        match timeout(self.limits.timeout, outcome.catch_unwind()).await {
            Ok(Ok(outcome)) => Ended::Answered(outcome),
            Ok(Err(_panic)) => Ended::Panicked,
            Err(_elapsed) => Ended::TimedOut(self.limits.timeout),
        }
    }

    async fn settle(&self, receipt: Q::Receipt, verdict: Verdict) -> Settled {
        let step = if verdict == Verdict::Done { Step::Done } else { Step::Written };
        let settled = self.queue.settle(receipt, verdict).await;
        if let Err(error) = &settled {
            tracing::warn!(handler = %self.name, %error, "cannot settle a delivery; it comes again");
        }
        match settled {
            Ok(()) => Ok(step),
            // That one delivery is not ours any more; the others are.
            Err(
                QueueError::NotFound
                | QueueError::Undeliverable
                | QueueError::NotSoFar(_)
                | QueueError::Configured,
            ) => Ok(Step::Started),
            Err(
                error @ (QueueError::Unavailable(_) | QueueError::Full(_) | QueueError::Closed),
            ) => Err(error),
        }
    }

    /// One line and one count for an attempt that ended: no subject, no body, no answer.
    fn tell(&self, stored: &StoredEvent, attempt: u32, took: Duration, decision: &Decision) {
        let handler = self.name.to_string();
        let labels = OutcomeLabels { handler, outcome: decision.word };
        self.metrics.attempts.get_or_create(&labels).inc();
        let attributes = stored.event.attributes();
        let of_altinn = stored.origin == Origin::Altinn;
        let shown = |text| if of_altinn { Cow::Borrowed(text) } else { masked(text) };
        tracing::info!(
            // As strings and not as `Display`, so that what the sender wrote is escaped.
            event.id = shown(&attributes.id).as_ref(),
            event.source = shown(&attributes.source).as_ref(),
            "event.type" = shown(&attributes.ty).as_ref(),
            handler = self.name.as_str(),
            attempt,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome = decision.word,
            reason = reason(&decision.verdict),
            "attempt ended"
        );
    }

    /// What a task says. It cannot panic but in the queue; then its lease is free again.
    fn settled(&self, joined: Result<Settled, JoinError>) -> Settled {
        joined.unwrap_or_else(|error| {
            tracing::error!(handler = %self.name, "a delivery's task failed; it comes again");
            Err(QueueError::Unavailable(error.to_string()))
        })
    }
}

fn reason(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Done => None,
        Verdict::RetryAfter(_, failure) | Verdict::Bury(failure) => Some(&failure.reason),
    }
}

impl InFlight {
    fn new(metrics: &Metrics, labels: HandlerLabels) -> Self {
        metrics.in_flight.get_or_create(&labels).inc();
        Self(metrics.clone(), labels)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.get_or_create(&self.1).dec();
    }
}

#[cfg(test)]
mod tests;
