//! What the writer and all callers share: the state in memory, and the store to read from.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use super::{options::Options, read_error::ReadError, state::State};
use crate::{
    clock::Clock,
    metrics::Metrics,
    queue::QueueError,
    store::{Disk, Error, View, codec::Malformed},
};

/// A start reads a log whole, and so finds any damage at once, while it is small enough to be read in
/// a moment. A larger one is checked as it is read, and by `brevdue verify`.
const READ_WHOLE: u64 = 64 * 1024 * 1024;

/// What writer and callers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) disk: Disk,
    pub(super) wake_writer: Notify,
    /// A read failed as only a broken store fails: the writer is to reopen it.
    broken: AtomicBool,
    /// Packed bytes up to which a log is read whole at start.
    pub(super) read_whole: u64,
    state: Mutex<State>,
    view: RwLock<Option<View>>,
    #[cfg(test)]
    panic: Mutex<Option<panics::Moment>>,
}

impl Shared {
    pub(super) fn new(options: Options, clock: Clock, metrics: Metrics, disk: Disk) -> Self {
        Self {
            options,
            clock,
            metrics,
            disk,
            wake_writer: Notify::new(),
            broken: AtomicBool::new(false),
            read_whole: READ_WHOLE,
            state: Mutex::new(State::new()),
            view: RwLock::new(None),
            #[cfg(test)]
            panic: Mutex::default(),
        }
    }

    /// The state; a holder that panicked cannot have left it half changed in a way that matters.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another view in place, or none; waits for reads under way.
    pub(super) fn set_view(&self, view: Option<View>) {
        let old = {
            let mut place = self.view.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, view)
        };
        drop(old);
    }

    /// Whether a read failed as only a broken store fails, since the last reopening.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The store was opened anew.
    pub(super) fn is_mended(&self) {
        self.broken.store(false, Ordering::Relaxed);
    }

    /// Reads from the store, on a thread that may block; for as long as the disk may take.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&View) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let view = shared.view.read().unwrap_or_else(PoisonError::into_inner);
            match view.as_ref() {
                Some(view) => read(view).map_err(|error| shared.failed(&error)),
                None => Err(shared.absent()),
            }
        });
        self.within(async {
            task.await.unwrap_or_else(|panic| Err(QueueError::Unavailable(panic.to_string())))
        })
        .await
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let patience = self.disk.patience();
        let late = || QueueError::Unavailable(format!("no answer within {patience:.0?}"));
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// What a failed read is to its caller. Damage stays where it is; everything else has the store
    /// reopened.
    fn failed(&self, error: &ReadError) -> QueueError {
        match error {
            ReadError::Store(Error::Damaged(why)) => self.tell(why),
            ReadError::Store(_) => {
                self.broken.store(true, Ordering::Relaxed);
                self.wake_writer.notify_one();
                QueueError::Unavailable(error.to_string())
            }
            ReadError::Damaged(_) | ReadError::Entry(..) => self.tell(&error.to_string()),
        }
    }

    /// An entry is not as it was written. The queue goes on with what is whole: it takes events, and
    /// delivers up to there. Only a repair can go on behind it without passing by in silence.
    pub(super) fn damaged(&self, key: &[u8], error: Malformed) -> QueueError {
        self.tell(&ReadError::Entry(key.to_vec(), error).to_string())
    }

    /// The same, in words. The first damage is logged, and told by the health from then on.
    pub(super) fn tell(&self, why: &str) -> QueueError {
        let is_first = {
            let told = &mut self.state().damaged;
            let is_first = told.is_none();
            told.get_or_insert_with(|| why.to_owned());
            is_first
        };
        if is_first {
            self.metrics.store_damaged.set(1);
            tracing::error!(
                %why,
                "the store is damaged, and what is damaged is not delivered: stop brevdue; \
                 `brevdue verify` says what is whole, `brevdue verify --repair` goes on with that"
            );
        }
        QueueError::Unavailable(format!("it is damaged, see `brevdue verify`: {why}"))
    }

    /// Errs once the queue is closed.
    pub(super) fn is_open(&self) -> Result<(), QueueError> {
        if self.state().closed { Err(QueueError::Closed) } else { Ok(()) }
    }

    fn absent(&self) -> QueueError {
        if self.state().closed {
            QueueError::Closed
        } else {
            QueueError::Unavailable("it is being reopened".into())
        }
    }
}

/// Panics of the writer outside of any call to the disk, for tests of what becomes of it.
#[cfg(test)]
pub(super) mod panics {
    use super::{PoisonError, Shared};

    /// What the writer is doing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::queue::sled) enum Moment {
        /// What it was asked for, or what is due.
        Step,
        /// It looks what is next.
        Between,
    }

    impl Shared {
        /// The next time that the writer does this, it panics.
        pub(in crate::queue::sled) fn put_panic_in_the_way(&self, moment: Moment) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment);
            self.wake_writer.notify_one();
        }

        pub(in crate::queue::sled) fn meet_panic(&self, moment: Moment) {
            let met = self
                .panic
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take_if(|due| *due == moment);
            if met.is_some() {
                std::panic::resume_unwind(Box::new("a test"));
            }
        }
    }
}
