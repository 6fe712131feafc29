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
    /// Time since the handler's time for this event began; `None` while the clock that measures it
    /// is not vouched for.
    pub age: Option<Duration>,
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
/// than the policy's longest. A delivery whose age nobody knows is not given up.
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
    if tried.age.is_some_and(|age| age >= retry.give_up_after) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backoff::Backoff;

    const SECOND: Duration = Duration::from_secs(1);

    fn retry() -> Retry {
        let backoff = Backoff::try_new(SECOND, SECOND * 60, 2.0).unwrap();
        Retry { backoff, give_up_after: SECOND * 1000 }
    }

    fn asked(after: Option<u64>) -> Ended {
        let failure = Failure { reason: "no".into(), answer: Some("later".into()) };
        Ended::Answered(Outcome::Retry { failure, after: after.map(Duration::from_secs) })
    }

    #[test]
    fn a_retry_waits_as_long_as_the_longer_of_back_off_and_hint_up_to_the_cap() {
        for (attempt, hint, seconds) in
            [(1, None, 1), (3, None, 4), (1, Some(30), 30), (5, Some(3), 16), (1, Some(900), 60)]
        {
            let tried = Tried { attempt, age: Some(SECOND), jitter: 1.0 };
            let decision = verdict(asked(hint), tried, &retry());
            let Verdict::RetryAfter(delay, failure) = decision.verdict else { panic!("{hint:?}") };
            assert_eq!((delay, decision.word), (SECOND * seconds, "retry"), "{attempt} {hint:?}");
            assert_eq!(failure.answer.as_deref(), Some("later"));
        }
    }

    #[test]
    fn every_end_has_its_word_and_its_verdict() {
        let failure = || Failure { reason: "bad".into(), answer: None };
        let rejected = Ended::Answered(Outcome::Rejected { failure: failure() });
        for (ended, age, word, buried) in [
            (Ended::Answered(Outcome::Delivered), Some(5000), "delivered", None),
            (rejected.clone(), Some(1), "rejected", Some("bad")),
            (rejected, None, "rejected", Some("bad")),
            (asked(None), Some(999), "retry", None),
            (asked(None), None, "retry", None),
            (asked(Some(1)), Some(1000), "given_up", Some("given up after 2 attempts: no")),
            (Ended::TimedOut(SECOND), Some(1), "timeout", None),
            (Ended::TimedOut(SECOND), None, "timeout", None),
            (
                Ended::TimedOut(SECOND),
                Some(1000),
                "given_up",
                Some("given up after 2 attempts: no answer within 1s"),
            ),
            (Ended::Panicked, Some(1), "panic", None),
        ] {
            let tried = Tried { attempt: 2, age: age.map(|age| SECOND * age), jitter: 0.0 };
            let decision = verdict(ended.clone(), tried, &retry());
            let reason = match &decision.verdict {
                Verdict::Bury(failure) => Some(failure.reason.as_str()),
                Verdict::Done | Verdict::RetryAfter(..) => None,
            };
            assert_eq!((decision.word, reason), (word, buried), "{ended:?}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_at_once_and_never_after_the_cap(
            attempt in 1u32..5000,
            age in proptest::option::of(0u32..999),
            hint in proptest::option::of(any::<u64>()),
            jitter in 0.0..1.0,
        ) {
            let tried = Tried { attempt, age: age.map(|age| SECOND * age), jitter };
            let decision = verdict(asked(hint), tried, &retry());
            let Verdict::RetryAfter(delay, _) = decision.verdict else {
                return Err(TestCaseError::fail("not a retry"));
            };
            prop_assert!(delay >= SECOND / 2 && delay <= retry().backoff.max());
            let hint = hint.map_or(Duration::ZERO, Duration::from_secs);
            prop_assert!(delay >= hint.min(retry().backoff.max()));
        }
    }
}
