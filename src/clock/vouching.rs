//! Whether the wall clock is vouched for: its course beside that of a clock that only goes on.
//!
//! Owns what counts as a jump and how long one is remembered. A jump is logged here, once, so that
//! nobody who looks can forget to. What a jump keeps from being done is decided where it is done.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::timestamp::Timestamp;

/// The wall clock may leave the steady one by this much between two looks. A clock that is slewed
/// goes wrong by at most 500 ppm, 43 s a day, and a leap second is one second; an age that decides
/// something is hours or days, so that a minute more or less decides nothing.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// A clock that went well for this long is vouched for again. A wrong clock is noticed within a
/// day, by its NTP or by a person who reads the warning; to keep things a day longer costs little.
pub const PROBATION: Duration = Duration::from_secs(24 * 3600);

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time that people and other machines use. Anyone may set it.
    pub wall: Timestamp,
    /// Time since a moment that means nothing. Nobody can set it.
    pub steady: Duration,
}

/// A wall clock that was set, or a machine that slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// It is ahead of what the steady clock says by this much.
    Forward(Duration),
    /// It is behind by this much.
    Back(Duration),
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(by) => write!(f, "forward by {} s", by.as_secs()),
            Self::Back(by) => write!(f, "back by {} s", by.as_secs()),
        }
    }
}

/// The jump between two readings of one process, if there was one.
pub fn between(last: Reading, now: Reading) -> Option<Jump> {
    let expected = last.wall.after(now.steady.saturating_sub(last.steady));
    beyond(TOLERANCE, TOLERANCE, expected, now.wall)
}

/// The jump from what another process noted last to now, if there was one.
fn since_noted(noted: Timestamp, now: Timestamp) -> Option<Jump> {
    beyond(TOLERANCE, PROBATION, noted, now)
}

fn beyond(back: Duration, forward: Duration, from: Timestamp, to: Timestamp) -> Option<Jump> {
    let (behind, ahead) = (from.since(to), to.since(from));
    if behind > back {
        Some(Jump::Back(behind))
    } else {
        (ahead > forward).then_some(Jump::Forward(ahead))
    }
}

/// What was seen of a wall clock.
#[derive(Debug)]
pub(super) struct Vouching(Mutex<History>);

#[derive(Debug)]
struct History {
    last: Option<Reading>,
    /// The steady time of the last jump.
    jumped: Option<Duration>,
    jumps: u64,
}

impl Vouching {
    /// Nothing was seen yet.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(History { last: None, jumped: None, jumps: 0 }))
    }

    /// Reads the clocks, and compares them with the last reading.
    pub(super) fn look(&self, read: impl FnOnce() -> Reading) -> (Reading, Option<Jump>) {
        let mut history = self.lock();
        // Read under the lock, so that readings are compared in their order.
        let now = read();
        let jump = history.last.replace(now).and_then(|last| between(last, now));
        history.note(jump, now);
        drop(history);
        tell(jump, now);
        (now, jump)
    }

    /// Compares the clock with what another process noted last.
    pub(super) fn seen(&self, at: Timestamp, read: impl FnOnce() -> Reading) -> Option<Jump> {
        let mut history = self.lock();
        let now = read();
        let jump = since_noted(at, now.wall);
        history.note(jump, now);
        drop(history);
        tell(jump, now);
        jump
    }

    /// Whether the clock had no jump within the last day.
    pub(super) fn vouches_for(&self, now: Reading) -> bool {
        let jumped = self.lock().jumped;
        jumped.is_none_or(|jumped| now.steady.saturating_sub(jumped) >= PROBATION)
    }

    pub(super) fn jumps(&self) -> u64 {
        self.lock().jumps
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn note(&mut self, jump: Option<Jump>, now: Reading) {
        if jump.is_some() {
            self.jumped = Some(now.steady);
            self.jumps = self.jumps.saturating_add(1);
        }
    }
}

/// Logs a jump. Not under the lock: whoever asks for the time must not wait for the log.
fn tell(jump: Option<Jump>, now: Reading) {
    if let Some(jump) = jump {
        tracing::warn!(
            %jump, now = %now.wall,
            "the clock jumped, or brevdue was stopped for long: for a day nothing is given up, \
             deleted or forgotten for its age; look whether the clock is right"
        );
    }
}

#[cfg(test)]
mod tests;
