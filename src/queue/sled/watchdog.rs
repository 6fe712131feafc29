//! How long the writer has been in one call to the disk: a sync can hang for ever, and then
//! callers are told so instead of waiting with it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::queue::QueueError;

/// So long a call may take before the store counts as failing; less than a request may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Knows whether a write is under way, and since when.
#[derive(Debug)]
pub(super) struct Watchdog {
    began: Mutex<Option<Instant>>,
    pub(super) patience: Duration,
}

/// A write that is under way; dropped, it is over.
#[derive(Debug)]
pub(super) struct Watched<'a>(&'a Watchdog);

impl Watchdog {
    /// Nothing is under way.
    pub(super) fn new(patience: Duration) -> Self {
        Self { began: Mutex::new(None), patience }
    }

    /// A write begins.
    pub(super) fn watch(&self) -> Watched<'_> {
        self.set(Some(Instant::now()));
        Watched(self)
    }

    /// What is wrong, if a write takes too long.
    pub(super) fn complaint(&self) -> Option<String> {
        let began = (*self.began.lock().unwrap_or_else(PoisonError::into_inner))?;
        let taken = began.elapsed();
        (taken >= self.patience).then(|| format!("the disk has not answered for {taken:.0?}"))
    }

    /// Waits for `answer`, but not for ever.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let late = || QueueError::Unavailable(format!("no answer within {:.0?}", self.patience));
        tokio::time::timeout(self.patience, answer).await.unwrap_or_else(|_| Err(late()))
    }

    fn set(&self, began: Option<Instant>) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
