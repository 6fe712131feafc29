//! Blocking work off the async threads, one piece after the other.
//!
//! Owns the order: work begins when all that was given before is done, also when nobody waits for
//! that any more. Nothing is locked while work is done.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::spawn_blocking};

/// Pieces of work that wait at the most. More are given only if the first of them hangs.
const MOST: usize = 16;

type Work = Box<dyn FnOnce() + Send>;

/// A line of work. Clones share it.
#[derive(Clone, Default)]
pub(super) struct InOrder(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    waiting: VecDeque<Work>,
    /// Whether a thread takes from it.
    running: bool,
}

/// Why work has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotDone {
    #[error("too much earlier work on it is not done yet")]
    Full,
    #[error("the work on it broke off")]
    BrokenOff,
}

impl fmt::Debug for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder").finish_non_exhaustive()
    }
}

impl InOrder {
    /// Does this after all that was given before. It is done even if the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (done, result) = oneshot::channel();
        self.give(Box::new(move || {
            // Nobody may wait for it any more.
            done.send(work()).ok();
        }))?;
        result.await.map_err(|_| NotDone::BrokenOff)
    }

    fn give(&self, work: Work) -> Result<(), NotDone> {
        let mut line = self.line();
        if line.waiting.len() >= MOST {
            return Err(NotDone::Full);
        }
        line.waiting.push_back(work);
        if !line.running {
            line.running = true;
            let own = self.clone();
            spawn_blocking(move || own.work_off());
        }
        Ok(())
    }

    fn work_off(&self) {
        while let Some(work) = self.next() {
            // Its sender is dropped with it, which tells who waits.
            catch_unwind(AssertUnwindSafe(work)).ok();
        }
    }

    fn next(&self) -> Option<Work> {
        let mut line = self.line();
        let next = line.waiting.pop_front();
        line.running = next.is_some();
        next
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_also_after_work_that_panics_or_is_not_waited_for() {
        let line = InOrder::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |number: u32| {
            let done = Arc::clone(&done);
            move || done.lock().unwrap().push(number)
        };
        let (release, held) = mpsc::channel::<()>();
        let abandoned = tokio::select! {
            biased;
            _ = line.run(move || held.recv().ok()) => false,
            () = async {} => true,
        };
        assert!(abandoned);
        let panicking = line.run(|| -> () { panic!("as the test wants it") });
        let (first, broken, second) = tokio::join!(line.run(note(1)), panicking, async {
            let second = line.run(note(2));
            drop(release);
            second.await
        });
        assert_eq!((first, broken, second), (Ok(()), Err(NotDone::BrokenOff), Ok(())));
        assert_eq!(*done.lock().unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn no_more_than_a_few_wait_behind_work_that_hangs() {
        let line = InOrder::default();
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        line.give(Box::new(move || {
            begun.send(()).ok();
            held.recv().ok();
        }))
        .unwrap();
        begins.await.unwrap();
        for _ in 0..MOST {
            line.give(Box::new(|| {})).unwrap();
        }
        assert_eq!(line.give(Box::new(|| {})), Err(NotDone::Full));
        drop(release);
    }
}
