//! How far this machine's clock is from the other side's: `Date` tells with every answer.

use std::time::Duration;

use crate::{clock::Timestamp, metrics::Metrics};

/// Maskinporten takes 10 s; half of it is time to say so.
pub(crate) const NOTABLE: Duration = Duration::from_secs(5);
/// `Date` has whole seconds: on average it is this much behind.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Our clock less theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew {
    /// Whether ours is ahead.
    pub(crate) ahead: bool,
    /// By how much.
    pub(crate) by: Duration,
}

impl Skew {
    /// From the moment before a request, the moment of its answer, and what the answer said.
    pub(crate) fn measured(before: Timestamp, after: Timestamp, date: Timestamp) -> Self {
        let ours = before.after(after.since(before) / 2);
        let theirs = date.after(HALF_A_SECOND);
        let (ahead, behind) = (ours.since(theirs), theirs.since(ours));
        Self { ahead: behind.is_zero(), by: ahead.max(behind) }
    }

    /// Whether a person should look.
    pub(crate) fn is_notable(self) -> bool {
        self.by > NOTABLE
    }

    fn seconds(self) -> f64 {
        let seconds = self.by.as_secs_f64();
        if self.ahead { seconds } else { -seconds }
    }

    /// Keeps it as a metric, and says so when it has become notable.
    pub(crate) fn note(self, metrics: &Metrics) {
        let before = metrics.clock_skew_seconds.set(self.seconds());
        let was_notable = before.abs() > NOTABLE.as_secs_f64();
        if self.is_notable() && !was_notable {
            let seconds = self.by.as_secs();
            if self.ahead {
                tracing::warn!(seconds, "this machine's clock is ahead of Maskinporten's");
            } else {
                tracing::warn!(seconds, "this machine's clock is behind Maskinporten's");
            }
        } else if was_notable && !self.is_notable() {
            tracing::info!("this machine's clock is Maskinporten's again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_call_is_compared_with_the_middle_of_the_second() {
        let at = Timestamp::from_millis;
        for (before, after, date, ahead, by) in [
            (10_400, 10_600, 10_000, true, 0),
            (20_000, 22_000, 10_000, true, 10_500),
            (1_000, 1_000, 61_000, false, 60_500),
            (10_000, 10_000, 10_000, false, 500),
        ] {
            let skew = Skew::measured(at(before), at(after), at(date));
            assert_eq!(skew, Skew { ahead, by: Duration::from_millis(by) }, "{before} {date}");
        }
    }

    #[test]
    fn the_metric_has_a_sign() {
        let metrics = Metrics::default();
        Skew { ahead: false, by: Duration::from_secs(7) }.note(&metrics);
        assert!((metrics.clock_skew_seconds.get() + 7.0).abs() < 0.001);
    }
}
