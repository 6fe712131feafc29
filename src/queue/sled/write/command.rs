//! Calls that write, on their way to the writer.

use super::{
    commit::{Answer, Commit},
    engine::Engine,
};
use crate::{name::HandlerName, queue::QueueError};

/// Which commit a call goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One with others, and only while there is room.
    NeedsRoom,
    /// One with others.
    Settles,
    /// One of its own, so that nothing is settled between the look and the deed.
    Operates,
}

/// Puts what was asked for into a commit, or refuses it.
type Decide = Box<dyn FnOnce(Result<(&mut Commit, &Engine), QueueError>) + Send>;

/// A call that writes.
pub(crate) enum Command {
    Call(Kind, Decide),
    /// As many commits as it takes.
    Forget(HandlerName, Answer<()>),
    Close(Answer<()>),
}

impl Command {
    /// A call that is decided on when its commit is put together.
    pub(crate) fn call<T: Send + 'static>(
        kind: Kind,
        answer: Answer<T>,
        decide: impl FnOnce(&mut Commit, &Engine) -> Result<T, QueueError> + Send + 'static,
    ) -> Self {
        let decide: Decide = Box::new(move |at| match at {
            Ok((commit, engine)) => {
                let decided = decide(commit, engine);
                commit.answer(answer, decided);
            }
            Err(refused) => drop(answer.send(Err(refused))),
        });
        Self::Call(kind, decide)
    }

    /// It goes in only while there is room.
    pub(super) fn needs_room(&self) -> bool {
        matches!(self, Self::Call(Kind::NeedsRoom, _))
    }

    /// It shares its commit with no other call.
    pub(super) fn is_alone(&self) -> bool {
        !matches!(self, Self::Call(Kind::NeedsRoom | Kind::Settles, _))
    }

    /// It is not done.
    pub(super) fn refuse(self, error: QueueError) {
        match self {
            Self::Call(_, decide) => decide(Err(error)),
            Self::Forget(_, answer) | Self::Close(answer) => drop(answer.send(Err(error))),
        }
    }
}
