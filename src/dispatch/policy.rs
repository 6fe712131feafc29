//! What becomes of a delivery after an attempt: a pure function of the outcome and its age.

use std::time::Duration;

use crate::{
    config::Retry,
    handler::Outcome,
    queue::{Failure, Verdict},
};

/// How an attempt ended, seen from outside the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The handler said how.
    Answered(Outcome),
    /// It had not ended in its time, and was dropped.
    TimedOut(Duration),
    /// It panicked. What the panic said can be personal, so it is not kept.
    Panicked,
}

/// The circumstances of an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Time since the handler's time for this event began.
    pub age: Duration,
    /// From 0 to 1, at random.
    pub jitter: f64,
}

/// What becomes of a delivery, and the word for it in logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For the queue.
    pub verdict: Verdict,
    /// `delivered`, `retry`, `rejected`, `given_up`, `timeout` or `panic`.
    pub word: &'static str,
}

/// Decides. A handler's `Retry-After` can make a delay longer, never shorter, and never longer
/// than the policy's longest.
pub fn verdict(ended: Ended, tried: Tried, retry: &Retry) -> Decision {
    let (word, failure, hint) = match ended {
        Ended::Answered(Outcome::Delivered) => {
            return Decision { verdict: Verdict::Done, word: "delivered" };
        }
        Ended::Answered(Outcome::Rejected { failure }) => {
            return Decision { verdict: Verdict::Bury(failure), word: "rejected" };
        }
        Ended::Answered(Outcome::Retry { failure, after }) => ("retry", failure, after),
        Ended::TimedOut(time) => ("timeout", because(format!("no answer within {time:?}")), None),
        Ended::Panicked => ("panic", because("the handler panicked".to_owned()), None),
    };
    if tried.age >= retry.give_up_after {
        return Decision { verdict: Verdict::Bury(given_up(failure, tried)), word: "given_up" };
    }
    let delay = retry.backoff.delay(tried.attempt, tried.jitter);
    let delay = delay.max(hint.unwrap_or_default()).min(retry.backoff.max());
    Decision { verdict: Verdict::RetryAfter(delay, failure), word }
}

fn because(reason: String) -> Failure {
    Failure { reason, answer: None }
}

fn given_up(failure: Failure, tried: Tried) -> Failure {
    let times = if tried.attempt == 1 { "attempt" } else { "attempts" };
    let reason = format!("given up after {} {times}: {}", tried.attempt, failure.reason);
    Failure { reason, answer: failure.answer }
}
