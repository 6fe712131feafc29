//! What the writer and all callers share: the state in memory, and the store to read from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinError,
};

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
/// Reads of the store under way at once. While the disk hangs, each holds a thread of those that the
/// whole process has for what may block.
const READS: usize = 64;

/// What writer and callers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) disk: Disk,
    pub(super) wake_writer: Notify,
    /// Packed bytes up to which a log is read whole at start.
    pub(super) read_whole: u64,
    reads: Arc<Semaphore>,
    state: Mutex<State>,
    view: RwLock<Option<View>>,
    #[cfg(test)]
    pub(super) panic: Mutex<Option<super::tests::panics::Moment>>,
}

impl Shared {
    pub(super) fn new(options: Options, clock: Clock, metrics: Metrics, disk: Disk) -> Self {
        Self {
            options,
            clock,
            metrics,
            disk,
            wake_writer: Notify::new(),
            read_whole: READ_WHOLE,
            reads: Arc::new(Semaphore::new(READS)),
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

    /// Reads from the store, on a thread that may block; for as long as the disk may take.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&View) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(self);
        let read = move || {
            let view = shared.view.read().unwrap_or_else(PoisonError::into_inner);
            let view = view.as_ref().ok_or_else(|| shared.absent())?;
            read(view).map_err(|error| shared.failed(&error))
        };
        let panicked = |panic: JoinError| Err(QueueError::Unavailable(panic.to_string()));
        let reads = Arc::clone(&self.reads);
        self.within(async {
            let under_way = reads.acquire_owned().await.map_err(|_| QueueError::Closed)?;
            let task = tokio::task::spawn_blocking(move || (read(), under_way));
            task.await.map_or_else(panicked, |(read, _)| read)
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
    pub(super) fn failed(&self, error: &ReadError) -> QueueError {
        match error {
            ReadError::Store(Error::Damaged(why)) => self.tell(why),
            ReadError::Store(_) => {
                self.state().broken = true;
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
            let damaged = &mut self.state().damaged;
            let is_first = damaged.is_none();
            damaged.get_or_insert_with(|| why.to_owned());
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

    /// Errs while calls cannot be answered, and says why.
    pub(super) fn works(&self) -> Result<(), QueueError> {
        let failing = {
            let state = self.state();
            if state.closed {
                return Err(QueueError::Closed);
            }
            state.failing.clone()
        };
        let why = failing.or_else(|| self.disk.complaint());
        why.map_or(Ok(()), |why| Err(QueueError::Unavailable(why)))
    }

    /// Why nobody answers.
    pub(super) fn absent(&self) -> QueueError {
        let reopening = || QueueError::Unavailable("it is being reopened".into());
        self.works().err().unwrap_or_else(reopening)
    }
}
