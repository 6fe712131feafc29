//! Wall time and steady time, in one place, so that tests can move them.
//!
//! Owns the two, and the question of whether the wall clock is vouched for ([`vouching`]). What
//! rests while it is not is the callers' to decide.

pub mod timestamp;
pub mod vouching;

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

pub use self::timestamp::{InvalidTime, Timestamp};
use self::vouching::{Jump, Reading, Vouching};

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
        let wall = since.map_or(Timestamp::default(), |since| Timestamp::default().after(since));
        Reading { wall, steady: self.began.elapsed() }
    }
}
