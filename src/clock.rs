//! Wall time and steady time, in one place, so that tests can move them.
//!
//! Owns the two, and the question of whether the wall clock is vouched for ([`vouching`]). What
//! rests while it is not is the callers' to decide.

pub mod vouching;

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::vouching::{Jump, Reading, Vouching};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "jiff::Timestamp", into = "String")]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `ms` milliseconds after 1970.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, as JWT claims count (RFC 7519 section 2, `NumericDate`).
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This much later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This much earlier; saturates at 1970.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time from `earlier` to this; zero when the clock went backwards.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).fmt(f)
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = std::num::TryFromIntError;

    fn try_from(at: jiff::Timestamp) -> Result<Self, Self::Error> {
        u64::try_from(at.as_millisecond()).map(Self)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        at.try_into().map_err(|_| InvalidTime)
    }
}

/// A text that is no time since 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in RFC 3339: 2026-08-20T10:00:00Z")]
pub struct InvalidTime;

/// Where the time comes from. Clones are the same clock.
///
/// Every call compares the wall clock with the steady one, so that no decision can rest on a jump
/// that nobody has looked for: a task that looks now and then would leave a gap before each look.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clocks.
    #[default]
    System,
    /// Clocks that stand still until they are set; for tests.
    Manual(Arc<Manual>),
}

/// Clocks that a test sets.
#[derive(Debug)]
pub struct Manual {
    reading: Mutex<Reading>,
    vouching: Vouching,
}

impl Clock {
    /// A clock that a test moves with [`Clock::advance`] and sets with [`Clock::set_wall`].
    pub fn manual(start: Timestamp) -> Self {
        let reading = Mutex::new(Reading { wall: start, steady: Duration::ZERO });
        Self::Manual(Arc::new(Manual { reading, vouching: Vouching::new() }))
    }

    /// The wall time now.
    pub fn now(&self) -> Timestamp {
        self.vouching().look(|| self.read()).0.wall
    }

    /// Time that only goes on, whatever is done to the wall clock. It has no beginning that means
    /// anything, stands still while the machine sleeps, and begins anew with each process.
    pub fn steady(&self) -> Duration {
        self.read().steady
    }

    /// Compares the two clocks; tells of a jump of the wall clock since the last look. Each call of
    /// [`Clock::now`] looks, too.
    pub fn look(&self) -> Option<Jump> {
        self.vouching().look(|| self.read()).1
    }

    /// Takes in the wall time of the last moments before this process, as a store noted it. A clock
    /// that is before that, or more than a day after it, counts as one that jumped: a daemon that
    /// was stopped for long cannot be told from a wrong clock.
    ///
    /// Only a vouched time may be noted ([`Clock::vouched_now`]): a restart must not make a wrong
    /// clock a good one.
    pub fn seen(&self, at: Timestamp) -> Option<Jump> {
        self.vouching().seen(at, || self.read())
    }

    /// Whether the wall clock went as steadily as it should for a day, or since the start. If not,
    /// nothing may be done for its age that cannot be undone.
    ///
    /// A time that was asked for before this is covered by the answer, one that is asked for after
    /// it is not: see [`Clock::vouched_now`].
    pub fn is_vouched(&self) -> bool {
        self.vouched_now().is_some()
    }

    /// The wall time now, if [`Clock::is_vouched`].
    pub fn vouched_now(&self) -> Option<Timestamp> {
        let (reading, _) = self.vouching().look(|| self.read());
        self.vouching().vouches_for(reading).then_some(reading.wall)
    }

    /// Jumps that were found so far.
    pub fn jumps(&self) -> u64 {
        self.vouching().jumps()
    }

    /// Moves both manual clocks; the machine's are not ours to move.
    pub fn advance(&self, by: Duration) {
        self.change(|reading| {
            *reading = Reading { wall: reading.wall.after(by), steady: reading.steady + by };
        });
    }

    /// Sets the manual wall clock and leaves the steady one alone: a jump, if it is far enough.
    pub fn set_wall(&self, to: Timestamp) {
        self.change(|reading| reading.wall = to);
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        if let Self::Manual(manual) = self {
            change(&mut manual.reading.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn read(&self) -> Reading {
        match self {
            Self::System => MACHINE.read(),
            Self::Manual(manual) => *manual.reading.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn vouching(&self) -> &Vouching {
        match self {
            Self::System => &MACHINE.vouching,
            Self::Manual(manual) => &manual.vouching,
        }
    }
}

/// The machine has one pair of clocks, so the process remembers one history of them.
static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::new);

struct Machine {
    #[expect(clippy::disallowed_types, reason = "tokio's stands still where a test pauses it")]
    began: std::time::Instant,
    vouching: Vouching,
}

impl Machine {
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "the one place that asks the machine"
    )]
    fn new() -> Self {
        Self { began: std::time::Instant::now(), vouching: Vouching::new() }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn read(&self) -> Reading {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Reading { wall: Timestamp(since.map_or(0, millis)), steady: self.began.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_and_read_as_rfc_3339() {
        let at = Timestamp::from_millis(1_713_511_339_438);
        assert_eq!(at.to_string(), "2024-04-19T07:22:19.438Z");
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2024-04-19T09:22:19.438+02:00".parse(), Ok(at));
        for wrong in ["1969-12-31T23:59:59Z", "2024-04-19", "1713511339438"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(InvalidTime), "{wrong}");
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let at = Timestamp::from_millis(5);
        assert_eq!(at.before(Duration::from_secs(1)), Timestamp::default());
        assert_eq!(Timestamp::default().since(at), Duration::ZERO);
        assert_eq!(at.after(Duration::MAX).as_millis(), u64::MAX);
    }
}
