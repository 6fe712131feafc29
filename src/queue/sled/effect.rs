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
    Retried { receipt: Box<Receipt>, due: u64, bytes: u64 },
    Buried { receipt: Box<Receipt>, at: Timestamp, bytes: u64 },
    RawBuried { number: u64, at: Timestamp, bytes: u64 },
    Revived { handler: HandlerName, seq: Seq, due: u64, bytes: u64 },
    Discarded(DeadLetterId),
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
                state.bury(
                    DeadLetterId::Delivery(lease.handler.clone(), Seq(lease.seq)),
                    at,
                    bytes,
                );
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
        }
    }
}
