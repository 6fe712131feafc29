//! What the writer waits for before a commit: calls that only a processor keeps from coming.
//!
//! Owns when it stops waiting. A call wakes the writer, and where all threads share one core the
//! writer runs at once, in place of the thread that was about to make the next calls. Each call
//! would then have a sync almost to itself, and the more senders there are, the more of the core
//! goes into syncs and changes of threads. There is no timer: giving way takes about a microsecond
//! when no other thread wants the core, and nothing comes of it then.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// The writer gives way at most this often before a commit.
const TURNS: usize = 16;
/// It does not give way again after this time: the core is busy with something else, too.
const LONGEST: Duration = Duration::from_millis(5);

/// Gives way until no more calls wait than before, or `enough` do.
pub(super) fn gather(enough: usize, waiting: impl FnMut() -> usize) {
    let began = Instant::now();
    give_way(enough, waiting, || {
        thread::yield_now();
        began.elapsed() < LONGEST
    });
}

/// `turn` lets others run, and says whether there is time for another one.
fn give_way(enough: usize, mut waiting: impl FnMut() -> usize, mut turn: impl FnMut() -> bool) {
    let mut before = waiting();
    for _ in 0..TURNS {
        if before >= enough || !turn() {
            return;
        }
        let now = waiting();
        if now <= before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often it gives way when this is what waits, before the first time and after each.
    fn turns(enough: usize, waiting: impl Fn(usize) -> usize) -> usize {
        turns_within(usize::MAX, enough, waiting)
    }

    /// With time for this many turns.
    fn turns_within(time: usize, enough: usize, waiting: impl Fn(usize) -> usize) -> usize {
        let turns = Cell::new(0);
        give_way(
            enough,
            || waiting(turns.get()),
            || {
                turns.set(turns.get() + 1);
                turns.get() < time
            },
        );
        turns.get()
    }

    #[test]
    fn it_gives_way_while_calls_come() {
        assert_eq!(turns(256, |_| 0), 1, "a call alone");
        assert_eq!(turns(256, |_| 7), 1, "all are here");
        assert_eq!(turns(256, |turn| [0, 20, 50, 64, 64, 99][turn]), 4, "until none comes");
        assert_eq!(turns(256, |turn| [0, 200, 256, 300][turn]), 2, "until it is enough");
        assert_eq!(turns(256, |_| 256), 0, "enough before");
        assert_eq!(turns(usize::MAX, |turn| turn), TURNS, "not without end");
        assert_eq!(turns_within(3, usize::MAX, |turn| turn), 3, "not on a core that others want");
    }
}
