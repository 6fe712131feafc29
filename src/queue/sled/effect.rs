//! What a commit does to the state, once it is synced.

use super::{reader::Receipt, state::State};
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{DeadLetterId, Seq},
};

/// What is true once it is synced.
#[derive(Debug)]
pub(super) enum Effect {
    Retried {
        receipt: Box<Receipt>,
        due: u64,
        bytes: u64,
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
        due: u64,
        bytes: u64,
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
    Forgotten(HandlerName),
}

impl Effect {
    pub(super) fn make_known(self, state: &mut State) {
        match self {
            Self::Retried { receipt, due, bytes } => {
                let lease = receipt.lease;
                state.settled(&lease.handler, lease.seq, lease.due);
                state.retries(&lease.handler, lease.seq, due, bytes);
                lease.end();
            }
            Self::Buried { receipt, at, bytes } => {
                let lease = receipt.lease;
                state.settled(&lease.handler, lease.seq, lease.due);
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
            Self::Revived { handler, seq, due, bytes } => {
                state.unbury(&DeadLetterId::Delivery(handler.clone(), seq));
                state.retries(&handler, seq.0, due, bytes);
            }
            Self::Discarded(id) => state.unbury(&id),
            Self::Deleted { handler, retries } => {
                if let Some(place) = state.places.get_mut(&handler) {
                    place.deleted(&retries);
                }
            }
            Self::Replayed(handler) => {
                if let Some(place) = state.places.get(&handler) {
                    place.wake.notify_waiters();
                }
            }
            Self::Paused { handler, paused } => {
                if let Some(place) = state.places.get_mut(&handler) {
                    place.paused = paused;
                    place.wake.notify_waiters();
                }
            }
            Self::Forgotten(handler) => state.forget(&handler),
        }
    }
}
