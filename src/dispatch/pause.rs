//! When a failing store is asked again: after a pause that grows with each failure in a row.
//!
//! Owns the length of the pause and what ends it. Who waits for it is the loop's.

use std::time::Duration;

use tokio::time::Instant;

use crate::{backoff::Backoff, queue::QueueError};

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);
/// A failure so long after the last pause begins a row of its own.
const CALM: Duration = Duration::from_secs(60);

/// A step of the loop that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A delivery began, or is not ours any more. It says nothing of the store's writes.
    Started,
    /// A delivery was settled as done. A store may keep that in memory for a while, so it says
    /// nothing of the store's writes either.
    Done,
    /// A retry or a dead letter was written down: the store works.
    Written,
}

/// When to ask a failing store again.
#[derive(Debug)]
pub(super) struct Pause {
    backoff: Option<Backoff>,
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// None is due.
    pub(super) fn new() -> Self {
        let backoff = Backoff::try_new(Duration::from_millis(100), LONGEST, 2.0).ok();
        Self { backoff, failures: 0, until: None }
    }

    /// The store is not asked before this.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes in how a step ended; true if the time of the next call changed. A write ends the pause
    /// and the row of failures, each failure after a pause makes the next one longer, and an error
    /// that does not heal is the end.
    pub(super) fn after(&mut self, step: Result<Step, QueueError>) -> Result<bool, QueueError> {
        let now = Instant::now();
        let waits = self.until.is_some_and(|until| until > now);
        match step {
            Ok(Step::Started | Step::Done) => Ok(false),
            Ok(Step::Written) => {
                (self.failures, self.until) = (0, None);
                Ok(waits)
            }
            // What was in flight fails with it, all at once; that is one failure.
            Err(QueueError::Unavailable(_) | QueueError::Full(_)) if waits => Ok(false),
            Err(QueueError::Unavailable(_) | QueueError::Full(_)) => {
                self.fail(now);
                Ok(true)
            }
            Err(
                error @ (QueueError::Closed
                | QueueError::NotFound
                | QueueError::Undeliverable
                | QueueError::NotSoFar(_)
                | QueueError::Configured),
            ) => Err(error),
        }
    }

    fn fail(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until + CALM <= now) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let delay = |backoff: &Backoff| backoff.delay(self.failures, fastrand::f64());
        self.until = Some(now + self.backoff.as_ref().map_or(LONGEST, delay));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn broken() -> Result<Step, QueueError> {
        Err(QueueError::Unavailable("disk".into()))
    }

    /// Fails once after the pause, and tells how long the next one is.
    fn next(pause: &mut Pause) -> Duration {
        assert_eq!(pause.after(broken()), Ok(true));
        pause.until().unwrap() - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_store_is_left_alone_for_longer_and_longer() {
        let mut pause = Pause::new();
        for failure in 0..10 {
            let wait = next(&mut pause);
            let step = (SECOND / 10 * 2u32.pow(failure)).min(LONGEST);
            assert!(wait >= step / 2 && wait <= step, "{failure}: {wait:?}");
            // Many that fail at once are one failure.
            for _ in 0..50 {
                assert_eq!(pause.after(broken()), Ok(false));
            }
            advance(wait).await;
        }
        assert_eq!(pause.after(Err(QueueError::Closed)), Err(QueueError::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_write_or_a_calm_time_ends_a_row_of_failures() {
        for (step, calm, longest) in [
            (Some(Step::Started), Duration::ZERO, LONGEST),
            (Some(Step::Done), Duration::ZERO, LONGEST),
            (Some(Step::Written), Duration::ZERO, SECOND / 10),
            (None, CALM / 2, LONGEST),
            (None, CALM, SECOND / 10),
        ] {
            let mut pause = Pause::new();
            for _ in 0..8 {
                let wait = next(&mut pause);
                advance(wait + SECOND / 1000).await;
            }
            if let Some(step) = step {
                assert_eq!(pause.after(Ok(step)), Ok(false), "the pause is over already");
            }
            advance(calm).await;
            let wait = next(&mut pause);
            assert!(wait >= longest / 2 && wait <= longest, "{step:?} {calm:?}: {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_a_pause_at_once_and_nothing_else_does() {
        let mut pause = Pause::new();
        next(&mut pause);
        for step in [Step::Started, Step::Done] {
            assert_eq!(pause.after(Ok(step)), Ok(false));
            assert!(pause.until().is_some());
        }
        assert_eq!(pause.after(Ok(Step::Written)), Ok(true));
        assert_eq!(pause.until(), None);
    }

    proptest! {
        #[test]
        fn without_a_write_there_are_ever_fewer_failures_a_second(
            steps in proptest::collection::vec((0u64..200, 0usize..3), 1..2000),
        ) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let failed = runtime.block_on(async {
                let (mut pause, mut failed) = (Pause::new(), Vec::new());
                for (passed, step) in steps {
                    advance(Duration::from_millis(passed)).await;
                    let step = vec![Ok(Step::Started), Ok(Step::Done), broken()].swap_remove(step);
                    if pause.after(step).unwrap() {
                        failed.push(Instant::now());
                    }
                }
                failed
            });
            for (failure, pair) in failed.windows(2).enumerate() {
                let doubled = 2u32.saturating_pow(failure.try_into().unwrap());
                let step = (SECOND / 10).saturating_mul(doubled).min(LONGEST);
                prop_assert!(pair[1] - pair[0] >= step / 2, "{failure}: {pair:?}");
            }
        }
    }
}
