//! Whose handshake is computed next.
//!
//! A handshake costs the server a signature and the peer a packet. So only some are computed at
//! a time, and processors are left for other work. The others wait, where the choice is by who has fewest
//! connections, and among those of one peer by who came last, since the first will be displaced or
//! has given up when there are too many. What has to go meanwhile has cost nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Id;

/// How many connections the peer of this one has; `None` if it has gone.
pub(in crate::server) type Weigh = Box<dyn Fn(&[Id]) -> Vec<Option<usize>> + Send + Sync>;

/// All turns.
pub(in crate::server) struct Turns {
    queue: Mutex<Queue>,
    weigh: Weigh,
}

struct Queue {
    free: usize,
    /// The one that came last is last.
    waiting: Vec<(Id, oneshot::Sender<Turn>)>,
}

/// A turn, until it is dropped.
pub(in crate::server) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl Turns {
    /// So many at a time.
    pub(in crate::server) fn new(at_once: usize, weigh: Weigh) -> Arc<Self> {
        let queue = Queue { free: at_once, waiting: Vec::new() };
        Arc::new(Self { queue: Mutex::new(queue), weigh })
    }

    /// Waits for a turn; how long is for the caller to bound. `None` cannot be: turns do not end.
    pub(in crate::server) async fn turn(self: &Arc<Self>, id: Id) -> Option<Turn> {
        let told = {
            let mut queue = self.queue();
            if queue.free > 0 {
                queue.free -= 1;
                return Some(Turn(Arc::clone(self)));
            }
            let (turn, told) = oneshot::channel();
            queue.waiting.push((id, turn));
            told
        };
        told.await.ok()
    }

    fn pass_on(self: &Arc<Self>) {
        let next = {
            let mut queue = self.queue();
            queue.waiting.retain(|(_, turn)| !turn.is_closed());
            let ids: Vec<Id> = queue.waiting.iter().map(|(id, _)| *id).collect();
            let weights = (self.weigh)(&ids).into_iter().enumerate();
            let present = weights.filter_map(|(place, weight)| Some((weight?, place)));
            let next = present.min_by_key(|(weight, place)| (*weight, std::cmp::Reverse(*place)));
            let Some((_, place)) = next else {
                // Those that have gone are about to be dropped.
                queue.waiting.clear();
                queue.free += 1;
                return;
            };
            queue.waiting.remove(place).1
        };
        // If it has gone in this moment, the turn comes back and is passed on.
        drop(next.send(Turn(Arc::clone(self))));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Connections 1 to 9 are of a peer that has nine, 10 of one that has one; 11 has gone.
    fn turns(at_once: usize) -> Arc<Turns> {
        let weigh = |id: &Id| match id {
            1..=9 => Some(9),
            10 => Some(1),
            _ => None,
        };
        Turns::new(at_once, Box::new(move |ids| ids.iter().map(weigh).collect()))
    }

    #[test]
    fn who_has_fewest_is_next_and_then_who_came_last() {
        let turns = turns(1);
        let first = turns.turn(1).now_or_never().unwrap();
        let mut waiting: Vec<_> = [2, 10, 3, 11].map(|id| Box::pin(turns.turn(id))).into();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        drop(first);
        for (place, others) in [(1, [0, 2]), (2, [0, 0])] {
            let turn = (&mut waiting[place]).now_or_never().expect("its turn");
            for other in others {
                assert!((&mut waiting[other]).now_or_never().is_none());
            }
            drop(turn);
        }
        assert!((&mut waiting[0]).now_or_never().is_some());
        assert_eq!(turns.queue().free, 1);
    }

    #[test]
    fn a_turn_that_nobody_takes_is_passed_on() {
        let turns = turns(2);
        let (one, two) = (turns.turn(1).now_or_never(), turns.turn(2).now_or_never());
        let mut gives_up = Box::pin(turns.turn(3));
        let mut given_too_late = Box::pin(turns.turn(10));
        let mut last = Box::pin(turns.turn(4));
        for waiting in [&mut gives_up, &mut given_too_late, &mut last] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(gives_up);
        drop(one);
        drop(given_too_late);
        assert!((&mut last).now_or_never().is_some());
        drop((two, last));
        assert_eq!(turns.queue().free, 2);
        assert!(turns.queue().waiting.is_empty());
    }
}
