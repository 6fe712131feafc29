//! Calls that write, on their way to the writer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::reader::Receipt;
use crate::{
    event::Arrival,
    name::HandlerName,
    queue::{Appended, Bookmark, DeadLetterId, Failure, QueueError, RawPush, ReplayFrom, Verdict},
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
    /// Always a commit of its own.
    Operate(Order),
    Close {
        answer: Answer<()>,
    },
}

/// What an operator asks for.
#[derive(Debug)]
pub(super) enum Order {
    Revive { id: DeadLetterId, answer: Answer<()> },
    Discard { id: DeadLetterId, answer: Answer<()> },
    Replay { handler: HandlerName, from: ReplayFrom, answer: Answer<u64> },
    Pause { handler: HandlerName, paused: bool, answer: Answer<()> },
    Forget { handler: HandlerName, answer: Answer<()> },
}

impl Op {
    /// It is not done.
    pub(super) fn refuse(self, error: QueueError) {
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(error))),
            Self::Operate(Order::Replay { answer, .. }) => drop(answer.send(Err(error))),
            Self::BuryRaw { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Operate(
                Order::Revive { answer, .. }
                | Order::Discard { answer, .. }
                | Order::Pause { answer, .. }
                | Order::Forget { answer, .. },
            )
            | Self::Close { answer } => drop(answer.send(Err(error))),
        }
    }
}
