//! A queue that is watched from outside: how often a take began and was dropped before its end. On
//! request it refuses every verdict.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::time::sleep;

use super::super::*;
use crate::queue::{
    Appended, BookmarkName, Census, DeadLetter, DeadLetterId, Health, Intake, Page, ReplayFrom,
    Seq,
    model::{ModelQueue, ModelReceipt},
};

/// What is seen and set.
#[derive(Default)]
pub(super) struct Watch {
    begun: AtomicU64,
    answered: AtomicU64,
    ended: AtomicU64,
    /// Verdicts are refused.
    pub(super) refuses: AtomicBool,
}

#[derive(Clone)]
pub(super) struct Watched {
    model: ModelQueue,
    reading: Duration,
    pub(super) watch: Arc<Watch>,
}

struct Taking<'a>(&'a Watch);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Watch {
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.ended.load(Ordering::SeqCst) - self.answered.load(Ordering::SeqCst)
    }
}

impl Watched {
    pub(super) fn new(model: &ModelQueue, reading: Duration) -> Self {
        Self { model: model.clone(), reading, watch: Arc::default() }
    }
}

impl Queue for Watched {
    type Receipt = ModelReceipt;

    async fn take(&self, handler: &HandlerName) -> Result<Delivery<ModelReceipt>, QueueError> {
        self.watch.begun.fetch_add(1, Ordering::SeqCst);
        let taking = Taking(&self.watch);
        sleep(self.reading).await;
        let taken = self.model.take(handler).await;
        self.watch.answered.fetch_add(1, Ordering::SeqCst);
        drop(taking);
        taken
    }

    async fn settle(&self, receipt: ModelReceipt, verdict: Verdict) -> Result<(), QueueError> {
        if self.watch.refuses.load(Ordering::SeqCst) {
            return Err(QueueError::Unavailable("disk".into()));
        }
        self.model.settle(receipt, verdict).await
    }

    async fn take_in(&self, intake: Intake) -> Result<Vec<Appended>, QueueError> {
        self.model.take_in(intake).await
    }

    async fn bookmark(&self, name: &BookmarkName) -> Result<Option<Bytes>, QueueError> {
        self.model.bookmark(name).await
    }

    async fn events(&self, page: Page) -> Result<Vec<StoredEvent>, QueueError> {
        self.model.events(page).await
    }

    async fn event(&self, seq: Seq) -> Result<StoredEvent, QueueError> {
        self.model.event(seq).await
    }

    async fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
        page: Page,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        self.model.dead_letters(handler, page).await
    }

    async fn dead_letter_ids(
        &self,
        handler: &HandlerName,
    ) -> Result<Vec<DeadLetterId>, QueueError> {
        self.model.dead_letter_ids(handler).await
    }

    async fn dead_letter(&self, id: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        self.model.dead_letter(id).await
    }

    async fn revive(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        self.model.revive(id).await
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), QueueError> {
        self.model.discard(id).await
    }

    async fn replay(&self, handler: &HandlerName, from: ReplayFrom) -> Result<u64, QueueError> {
        self.model.replay(handler, from).await
    }

    async fn pause(&self, handler: &HandlerName, paused: bool) -> Result<(), QueueError> {
        self.model.pause(handler, paused).await
    }

    async fn forget(&self, handler: &HandlerName) -> Result<(), QueueError> {
        self.model.forget(handler).await
    }

    async fn census(&self) -> Result<Census, QueueError> {
        self.model.census().await
    }

    fn health(&self) -> Health {
        self.model.health()
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.model.close().await
    }
}
