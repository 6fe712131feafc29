//! Calls that write, on their way to the writer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    event::Arrival,
    name::HandlerName,
    queue::{
        Appended, Bookmark, DeadLetterId, Failure, QueueError, RawPush, ReplayFrom, Verdict,
        sled::read::take::Receipt,
    },
};

/// Whom to tell how it ended.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// A call that writes.
#[derive(Debug)]
pub(crate) enum Command {
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
    Operate(Operation),
    /// As many commits as it takes.
    Forget {
        handler: HandlerName,
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum Operation {
    Revive { id: DeadLetterId, answer: Answer<()> },
    Discard { id: DeadLetterId, answer: Answer<()> },
    Replay { handler: HandlerName, from: ReplayFrom, answer: Answer<u64> },
    Pause { handler: HandlerName, paused: bool, answer: Answer<()> },
}

impl Command {
    /// It is not done.
    pub(crate) fn refuse(self, error: QueueError) {
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(error))),
            Self::Operate(Operation::Replay { answer, .. }) => drop(answer.send(Err(error))),
            Self::BuryRaw { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Operate(
                Operation::Revive { answer, .. }
                | Operation::Discard { answer, .. }
                | Operation::Pause { answer, .. },
            )
            | Self::Forget { answer, .. }
            | Self::Close { answer } => drop(answer.send(Err(error))),
        }
    }
}
