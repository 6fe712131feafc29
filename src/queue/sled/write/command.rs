//! Calls that write, on their way to the writer.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    event::Arrival,
    name::HandlerName,
    queue::{
        Appended, Bookmark, DeadLetterId, Failure, QueueError, RawPush, ReplayFrom,
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
        /// Leave to wait in memory.
        room: OwnedSemaphorePermit,
    },
    BuryRaw {
        push: RawPush,
        failure: Failure,
        answer: Answer<()>,
        room: OwnedSemaphorePermit,
    },
    /// A retry after this delay, or without one a dead letter.
    Settle {
        receipt: Box<Receipt>,
        delay: Option<Duration>,
        failure: Failure,
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
    Replay {
        handler: HandlerName,
        from: ReplayFrom,
        answer: Answer<u64>,
    },
    Pause {
        handler: HandlerName,
        paused: bool,
        answer: Answer<()>,
    },
    /// As many commits as it takes.
    Forget {
        handler: HandlerName,
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

impl Command {
    /// It goes in only while there is room.
    pub(crate) fn needs_room(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::BuryRaw { .. })
    }

    /// It shares its commit with no other call: what an operator asks for, so that nothing is settled
    /// between the look and the deed, and the end.
    pub(crate) fn is_alone(&self) -> bool {
        !self.needs_room() && !matches!(self, Self::Settle { .. })
    }

    /// It is not done.
    pub(crate) fn refuse(self, error: QueueError) {
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(error))),
            Self::Replay { answer, .. } => drop(answer.send(Err(error))),
            Self::BuryRaw { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Revive { answer, .. }
            | Self::Discard { answer, .. }
            | Self::Pause { answer, .. }
            | Self::Forget { answer, .. }
            | Self::Close { answer } => drop(answer.send(Err(error))),
        }
    }
}
