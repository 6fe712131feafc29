//! Growing, jittered delays, for handlers and for calls to Altinn.

use std::time::Duration;

/// A delay that grows by `factor` from `initial` to `max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: f64,
}

/// Why three numbers make no back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// A zero delay would be a busy loop.
    #[error("initial must be longer than zero")]
    ZeroInitial,
    /// The cap is below the start.
    #[error("max must not be shorter than initial")]
    MaxBelowInitial,
    /// Delays must not shrink.
    #[error("factor must be a number from 1 to 100")]
    Factor,
}

impl Backoff {
    /// Checks the three numbers once, so that no later code has to.
    pub fn try_new(initial: Duration, max: Duration, factor: f64) -> Result<Self, InvalidBackoff> {
        if initial.is_zero() {
            return Err(InvalidBackoff::ZeroInitial);
        }
        if max < initial {
            return Err(InvalidBackoff::MaxBelowInitial);
        }
        if !(1.0..=100.0).contains(&factor) {
            return Err(InvalidBackoff::Factor);
        }
        Ok(Self { initial, max, factor })
    }

    /// The delay after the `attempt`-th failure (from 1), between half and all of its step.
    ///
    /// `jitter` is from 0 to 1; it spreads those who failed together.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let exponent = f64::from(attempt.saturating_sub(1).min(1000));
        let grown = self.initial.as_secs_f64() * self.factor.powf(exponent);
        let step = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(step * (0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
    }

    /// The delay after the `attempt`-th failure, with its own jitter.
    pub fn random_delay(&self, attempt: u32) -> Duration {
        self.delay(attempt, fastrand::f64())
    }

    /// The first delay.
    pub fn initial(&self) -> Duration {
        self.initial
    }

    /// The longest delay.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// An interval that is up to a tenth shorter or longer: it spreads those who began together.
pub fn spread(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff() -> Backoff {
        Backoff::try_new(Duration::from_secs(1), Duration::from_secs(3600), 2.0).unwrap()
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        for (attempt, seconds) in [(1, 1), (2, 2), (5, 16), (12, 2048), (13, 3600), (4000, 3600)] {
            assert_eq!(backoff().delay(attempt, 1.0), Duration::from_secs(seconds), "{attempt}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let second = Duration::from_secs(1);
        for (initial, max, factor) in [
            (Duration::ZERO, second, 2.0),
            (second, Duration::ZERO, 2.0),
            (second, second, 0.5),
            (second, second, f64::NAN),
        ] {
            assert!(Backoff::try_new(initial, max, factor).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_its_step_and_the_cap(attempt in 0u32..5000, jitter in 0.0..1.0) {
            let delay = backoff().delay(attempt, jitter);
            prop_assert!(delay >= Duration::from_millis(500) && delay <= backoff().max());
            let delay = backoff().random_delay(attempt);
            prop_assert!(delay >= Duration::from_millis(500) && delay <= backoff().max());
        }

        #[test]
        fn an_interval_is_spread_by_a_tenth_at_the_most(seconds in 1u64..100_000) {
            let interval = Duration::from_secs(seconds);
            let spread = spread(interval);
            prop_assert!(spread >= interval * 89 / 100 && spread <= interval * 111 / 100);
        }
    }
}
