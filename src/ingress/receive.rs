//! From an admitted body to the queue, and from its word to a status.

use std::borrow::Cow;

use bytes::Bytes;
use http::{StatusCode, request::Parts};
use tokio::time::Instant;

use super::{Hooks, Push, refusals::because, refused, try_later};
use crate::{
    event::{Arrival, Origin},
    log_lines::masked,
    metrics::HookLabels,
    name::HookName,
    queue::{Appended, Failure, Intake, Queue, QueueError},
    server::{Answer, Proof, answer},
    source::{Admission, Refusal, Source, Undecodable},
};

impl<Q: Queue> Hooks<Q> {
    /// Answers a request whose body is here. If the peer goes away meanwhile, the events are
    /// stored or not, and it sends them again: without our 200 it knows nothing else.
    pub(super) async fn receive(
        &self,
        name: &HookName,
        source: &dyn Source,
        head: &Parts,
        body: Bytes,
    ) -> Answer {
        let began = Instant::now();
        let admitted = source.admit(head, body);
        let genuine = !matches!(admitted, Err(Refusal::Unauthenticated));
        if let Some(proof) = head.extensions.get::<Proof>().filter(|_| genuine) {
            proof.give();
        }
        let result = match admitted {
            Err(refusal) => return refused(&refusal),
            Ok(Admission::Validation) => {
                self.metrics.validations.get_or_create(&HookLabels::new(name)).inc();
                tracing::info!(hook = %name, "answered a validation event");
                return answer::empty(StatusCode::OK);
            }
            Ok(Admission::Events(arrivals)) => self.store(name, arrivals, Vec::new()).await,
            Ok(Admission::Undecodable { events, rest }) => self.store(name, events, rest).await,
        };
        self.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                let now = self.clock.now().since(crate::clock::Timestamp::default());
                let last = self.metrics.last_push_seconds.get_or_create(&HookLabels::new(name));
                last.set(now.as_secs_f64());
                answer::empty(StatusCode::OK)
            }
            Err(error) => {
                (self.on_push)(name, Push::Refused);
                because(error.to_string(), try_later())
            }
        }
    }

    /// Stores it all in one commit.
    async fn store(
        &self,
        name: &HookName,
        arrivals: Vec<Arrival>,
        rest: Vec<Undecodable>,
    ) -> Result<(), QueueError> {
        if arrivals.is_empty() && rest.is_empty() {
            return Ok(());
        }
        let failure = |reason: &String| Failure { reason: reason.clone(), answer: None };
        let undecodable = rest.iter().map(|one| (one.push.clone(), failure(&one.reason))).collect();
        let intake = Intake { arrivals: arrivals.clone(), undecodable, bookmark: None };
        let appended = self.queue.take_in(intake).await?;
        self.kept(name, &rest);
        let labels = HookLabels::new(name);
        for (arrival, appended) in arrivals.iter().zip(appended) {
            (self.on_push)(name, Push::Kept(arrival, appended));
            let of_altinn = arrival.origin == Origin::Altinn;
            let outcome = match appended {
                Appended::Stored(_) => {
                    self.metrics.stored.get_or_create(&labels).inc();
                    if let Some(rule) = arrival.event.oddity() {
                        self.metrics.odd.get_or_create(&labels).inc();
                        tracing::warn!(hook = %name, %rule, "an event that breaks a rule of CloudEvents was stored");
                    }
                    (self.on_stored)(arrival);
                    "stored"
                }
                Appended::Duplicate => {
                    self.metrics.duplicates.get_or_create(&labels).inc();
                    "duplicate"
                }
            };
            let event = arrival.event.attributes();
            let shown = |text| if of_altinn { Cow::Borrowed(text) } else { masked(text) };
            tracing::info!(
                event.id = %shown(&event.id), event.source = %shown(&event.source),
                event.type = %shown(&event.ty), hook = %name, outcome, "event"
            );
        }
        Ok(())
    }

    /// Tells of what was kept; one line for a batch.
    fn kept(&self, name: &HookName, rest: &[Undecodable]) {
        let Some(first) = rest.first() else { return };
        let count = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        self.metrics.undecodable.get_or_create(&HookLabels::new(name)).inc_by(count);
        let reason = &first.reason;
        tracing::warn!(hook = %name, reason, count, "kept a push that is no CloudEvent as a dead letter");
    }
}
