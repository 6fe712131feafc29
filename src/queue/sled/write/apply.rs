//! What a commit changes in the state, once it is durable.

use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        DeadLetterId, Seq,
        sled::{
            read::take::Receipt,
            state::{State, retries::Retry},
        },
    },
};

/// What is true once it is durable.
#[derive(Debug)]
pub(crate) enum Apply {
    Retried {
        receipt: Box<Receipt>,
        retry: Retry,
    },
    Buried {
        receipt: Box<Receipt>,
        at: Timestamp,
        bytes: u64,
    },
    RawBuried {
        number: u64,
        at: Timestamp,
        bytes: u64,
    },
    Revived {
        handler: HandlerName,
        seq: Seq,
        retry: Retry,
    },
    Discarded(DeadLetterId),
    /// Retries that succeeded are deleted: number, due time.
    Deleted {
        handler: HandlerName,
        retries: Vec<(u64, u64)>,
    },
    Replayed(HandlerName),
    Paused {
        handler: HandlerName,
        paused: bool,
    },
}

impl Apply {
    pub(crate) fn to(self, state: &mut State) {
        match self {
            Self::Retried { receipt, retry } => {
                let lease = receipt.lease;
                let due = state.due_on_disk(&lease.handler, lease.seq, lease.due);
                state.settled(&lease.handler, lease.seq, due);
                state.retries(&lease.handler, lease.seq, retry);
                lease.end();
            }
            Self::Buried { receipt, at, bytes } => {
                let lease = receipt.lease;
                let due = state.due_on_disk(&lease.handler, lease.seq, lease.due);
                state.settled(&lease.handler, lease.seq, due);
                let id = DeadLetterId::Delivery(lease.handler.clone(), Seq(lease.seq));
                // A replayed event may have been buried before: there is one letter of it.
                state.unbury(&id);
                state.bury(id, at, bytes);
                state.live_bytes += bytes;
                lease.end();
            }
            Self::RawBuried { number, at, bytes } => {
                state.bury(DeadLetterId::Raw(number), at, bytes);
                state.live_bytes += bytes;
            }
            Self::Revived { handler, seq, retry } => {
                state.unbury(&DeadLetterId::Delivery(handler.clone(), seq));
                state.retries(&handler, seq.0, retry);
            }
            Self::Discarded(id) => state.unbury(&id),
            Self::Deleted { handler, retries } => {
                if let Some(handler) = state.handlers.get_mut(&handler) {
                    handler.deleted(&retries);
                }
            }
            Self::Replayed(handler) => {
                if let Some(handler) = state.handlers.get(&handler) {
                    handler.wake.notify_waiters();
                }
            }
            Self::Paused { handler, paused } => {
                if let Some(handler) = state.handlers.get_mut(&handler) {
                    handler.paused = paused;
                    handler.wake.notify_waiters();
                }
            }
        }
    }
}
