//! Calls that write, on their way to the writer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::reader::Receipt;
use crate::{
    event::Arrival,
    queue::{Appended, Bookmark, DeadLetterId, Failure, QueueError, RawPush, Verdict},
};

/// Whom to tell how it ended.
pub(super) type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// A call that writes.
#[derive(Debug)]
pub(super) enum Op {
    Append {
        arrivals: Vec<Arrival>,
        bookmark: Option<Bookmark>,
        answer: Answer<Vec<Appended>>,
        room: OwnedSemaphorePermit,
    },
    BuryRaw {
        push: RawPush,
        failure: Failure,
        answer: Answer<()>,
        room: OwnedSemaphorePermit,
    },
    Settle {
        receipt: Box<Receipt>,
        verdict: Verdict,
        answer: Answer<()>,
    },
    Revive {
        id: DeadLetterId,
        answer: Answer<()>,
    },
    Discard {
        id: DeadLetterId,
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

impl Op {
    /// It is not done.
    pub(super) fn refuse(self, error: QueueError) {
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(error))),
            Self::BuryRaw { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Revive { answer, .. }
            | Self::Discard { answer, .. }
            | Self::Close { answer } => drop(answer.send(Err(error))),
        }
    }
}
