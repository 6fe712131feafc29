//! All dead letters of a handler at once: retried or discarded, step by step.
//!
//! Owns that it comes to an end: what is meant is the letters that are there when it begins, so one
//! that is buried again meanwhile is not taken again. Each request is one step of bounded length;
//! whoever asks sees how far it is and asks for the next.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    admin::schema,
    name::HandlerName,
    queue::{DeadLetterId, Queue, QueueError, Seq},
};

/// Letters of one step, at the most.
const STEP: usize = 1000;
/// Letters that share a group of commits.
const AT_ONCE: usize = 64;
/// A step takes little longer than this, however slow the disk is.
const LONGEST: Duration = Duration::from_secs(5);
/// Snapshots that are kept for their next step; the oldest goes for a new one.
const KEPT: usize = 8;

/// Why there is no step.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StepError {
    /// It was worked off, or had to go for others.
    #[error("the snapshot is not kept any more: begin anew")]
    Unknown,
    /// The handler is not known, or the store does not work.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is done to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Retry,
    Discard,
}

/// The snapshots that are not worked off yet.
#[derive(Debug, Default)]
pub struct Bulk(Mutex<Snapshots>);

#[derive(Debug, Default)]
struct Snapshots {
    last: u64,
    kept: VecDeque<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    number: u64,
    handler: HandlerName,
    action: Action,
    total: usize,
    left: VecDeque<Seq>,
}

impl Bulk {
    /// The first step, or the next one of this snapshot.
    pub(super) async fn step<Q: Queue>(
        &self,
        queue: &Q,
        (handler, action): (&HandlerName, Action),
        number: Option<u64>,
    ) -> Result<schema::Bulk, StepError> {
        let mut snapshot = match number {
            None => self.begin(queue, handler, action).await?,
            // Nobody else has it meanwhile.
            Some(number) => self.take(number, handler, action).ok_or(StepError::Unknown)?,
        };
        let told = snapshot.work_off(queue).await;
        if !snapshot.left.is_empty() {
            self.keep(snapshot);
        }
        Ok(told)
    }

    async fn begin<Q: Queue>(
        &self,
        queue: &Q,
        handler: &HandlerName,
        action: Action,
    ) -> Result<Snapshot, StepError> {
        let seq = |id| match id {
            DeadLetterId::Delivery(_, seq) => Some(seq),
            DeadLetterId::Raw(_) => None,
        };
        let left: VecDeque<_> =
            queue.dead_letter_ids(handler).await?.into_iter().filter_map(seq).collect();
        let mut all = self.all();
        all.last += 1;
        let (number, total) = (all.last, left.len());
        Ok(Snapshot { number, handler: handler.clone(), action, total, left })
    }

    fn take(&self, number: u64, handler: &HandlerName, action: Action) -> Option<Snapshot> {
        let mut all = self.all();
        let is_it = |kept: &Snapshot| {
            kept.number == number && kept.handler == *handler && kept.action == action
        };
        let at = all.kept.iter().position(is_it)?;
        all.kept.remove(at)
    }

    fn keep(&self, snapshot: Snapshot) {
        let mut all = self.all();
        if all.kept.len() >= KEPT {
            all.kept.pop_front();
        }
        all.kept.push_back(snapshot);
    }

    fn all(&self) -> MutexGuard<'_, Snapshots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    async fn work_off<Q: Queue>(&mut self, queue: &Q) -> schema::Bulk {
        let began = Instant::now();
        let mut told = schema::Bulk {
            snapshot: self.number.to_string(),
            total: self.total,
            done: 0,
            gone: 0,
            left: 0,
            error: None,
        };
        let mut step = STEP;
        while step > 0 && told.error.is_none() && began.elapsed() < LONGEST {
            let some: Vec<_> = self.left.drain(..self.left.len().min(AT_ONCE).min(step)).collect();
            if some.is_empty() {
                break;
            }
            step -= some.len();
            let each = some.iter().map(|seq| self.one(queue, *seq));
            for (seq, done) in some.iter().zip(join_all(each).await) {
                match done {
                    Ok(()) => told.done += 1,
                    // Somebody else has retried or discarded it, or its age has.
                    Err(QueueError::NotFound) => told.gone += 1,
                    Err(error) => {
                        self.left.push_back(*seq);
                        told.error = Some(error.to_string());
                    }
                }
            }
        }
        told.left = self.left.len();
        told
    }

    async fn one<Q: Queue>(&self, queue: &Q, seq: Seq) -> Result<(), QueueError> {
        let id = DeadLetterId::Delivery(self.handler.clone(), seq);
        match self.action {
            Action::Retry => queue.revive(&id).await,
            Action::Discard => queue.discard(&id).await,
        }
    }
}
