//! A queue in memory that holds what the endpoint gave it, and fails when told to.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    event::Arrival,
    name::HandlerName,
    queue::{
        Appended, BookmarkName, Census, DeadLetter, DeadLetterId, Delivery, Failure, Health,
        Intake, Page, Queue, QueueError, RawPush, ReplayFrom, Seq, StoredEvent, Verdict,
    },
};

/// What the endpoint gave.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) stored: Vec<Arrival>,
    pub(super) raw: Vec<(RawPush, Failure)>,
    pub(super) failing: Option<QueueError>,
}

/// The queue; its gate is open unless a test closes it.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) content: Arc<Mutex<Content>>,
    pub(super) gate: Arc<Semaphore>,
    pub(super) begun: Arc<Semaphore>,
}

impl Default for Log {
    fn default() -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
        Self { content: Arc::default(), gate, begun: Arc::new(Semaphore::new(0)) }
    }
}

impl Log {
    pub(super) fn ids(&self) -> Vec<String> {
        let content = self.content.lock().unwrap();
        content.stored.iter().map(|arrival| arrival.event.attributes().id.clone()).collect()
    }

    pub(super) fn fail(&self, error: Option<QueueError>) {
        self.content.lock().unwrap().failing = error;
    }

    async fn pass(&self) {
        self.begun.add_permits(1);
        drop(self.gate.acquire().await.unwrap());
    }
}

fn is_same(one: &Arrival, other: &Arrival) -> bool {
    let (a, b) = (one.event.attributes(), other.event.attributes());
    (&one.origin, &a.source, &a.id) == (&other.origin, &b.source, &b.id)
}

impl Queue for Log {
    type Receipt = ();

    async fn take_in(&self, intake: Intake) -> Result<Vec<Appended>, QueueError> {
        let Intake { arrivals, undecodable, .. } = intake;
        self.pass().await;
        let mut content = self.content.lock().unwrap();
        if let Some(error) = content.failing.clone() {
            return Err(error);
        }
        content.raw.extend(undecodable);
        let mut append = |arrival: Arrival| {
            if content.stored.iter().any(|stored| is_same(stored, &arrival)) {
                return Appended::Duplicate;
            }
            content.stored.push(arrival);
            Appended::Stored(content.stored.len().to_string().parse().unwrap())
        };
        Ok(arrivals.into_iter().map(&mut append).collect())
    }

    async fn bookmark(&self, _: &BookmarkName) -> Result<Option<Bytes>, QueueError> {
        Ok(None)
    }

    async fn take(&self, _: &HandlerName) -> Result<Delivery<()>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn settle(&self, (): (), _: Verdict) -> Result<(), QueueError> {
        Err(QueueError::Closed)
    }

    async fn events(&self, _: Page) -> Result<Vec<StoredEvent>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn event(&self, _: Seq) -> Result<StoredEvent, QueueError> {
        Err(QueueError::NotFound)
    }

    async fn dead_letters(
        &self,
        _: Option<&HandlerName>,
        _: Page,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn dead_letter_ids(&self, _: &HandlerName) -> Result<Vec<DeadLetterId>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn dead_letter(&self, _: &DeadLetterId) -> Result<DeadLetter, QueueError> {
        Err(QueueError::NotFound)
    }

    async fn revive(&self, _: &DeadLetterId) -> Result<(), QueueError> {
        Err(QueueError::NotFound)
    }

    async fn discard(&self, _: &DeadLetterId) -> Result<(), QueueError> {
        Err(QueueError::NotFound)
    }

    async fn replay(&self, _: &HandlerName, _: ReplayFrom) -> Result<u64, QueueError> {
        Err(QueueError::NotFound)
    }

    async fn pause(&self, _: &HandlerName, _: bool) -> Result<(), QueueError> {
        Err(QueueError::NotFound)
    }

    async fn forget(&self, _: &HandlerName) -> Result<(), QueueError> {
        Err(QueueError::NotFound)
    }

    async fn census(&self) -> Result<Census, QueueError> {
        Err(QueueError::Closed)
    }

    fn health(&self) -> Health {
        Health::Writable
    }

    async fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
