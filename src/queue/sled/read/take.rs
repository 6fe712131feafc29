//! Deliveries on their way out: leases, receipts, and waiting for the next one.
//!
//! Reads go to memory first, else to the store on a thread that may block. Nothing here writes.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::groups::groups_from;
use crate::{
    clock::Timestamp,
    name::HandlerName,
    queue::{
        Delivery, QueueError, StoredEvent,
        sled::{
            codec::{RETRY, record::MISSING, values::Tried},
            keys,
            read_error::entry,
            shared::Shared,
            state::{State, handler::Job, retries::Retry},
        },
    },
    store::View,
};

/// Longest wait before the clock is looked at again: a test moves it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A delivery given out. Dropped while it is held, it is given back.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    pub(crate) handler: HandlerName,
    seq: u64,
    held: bool,
}

impl Lease {
    fn new(shared: &Arc<Shared>, handler: &HandlerName, seq: u64) -> Self {
        Self { shared: Arc::clone(shared), handler: handler.clone(), seq, held: true }
    }

    /// The delivery has ended: nothing is to be given back. The retry that it was, if it was one.
    pub(in crate::queue::sled) fn end(mut self, state: &mut State) -> Option<Retry> {
        self.held = false;
        state.settled(&self.handler, self.seq)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        if let Some(handler) = self.shared.state().handlers.get_mut(&self.handler) {
            handler.release(self.seq);
        }
    }
}

/// Proof that a delivery is ours to settle; dropped, the delivery is given out again.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) lease: Lease,
    pub(crate) stored: Arc<StoredEvent>,
    pub(crate) attempt: u32,
    pub(crate) since: Timestamp,
}

/// The next delivery; waits for one.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    handler: &HandlerName,
) -> Result<Delivery<Receipt>, QueueError> {
    loop {
        let wake = Arc::clone(&shared.state().handler(handler)?.wake);
        let mut woken = pin!(wake.notified());
        // Before looking, or what comes between looking and waiting would be missed.
        woken.as_mut().enable();
        let now = shared.clock.steady();
        let job = shared.state().job(handler, now)?;
        match job {
            Job::Event(seq) => {
                let lease = Lease::new(shared, handler, seq);
                if let Some(stored) = event_of(&lease).await? {
                    let since = shared.clock.now();
                    return Ok(delivery(Receipt { lease, stored, attempt: 1, since }));
                }
                // It was lost, and a repair has told so.
                let mut state = shared.state();
                lease.end(&mut state);
                state.handler(handler)?.unwritten += 1;
            }
            Job::Retry(seq, due) => {
                let lease = Lease::new(shared, handler, seq);
                if let Some(receipt) = retry_of(lease, due).await? {
                    return Ok(delivery(receipt));
                }
            }
            Job::Wait(None) => woken.await,
            Job::Wait(Some(until)) => {
                let wait = until.saturating_sub(now).clamp(Duration::from_millis(1), LOOK_AGAIN);
                tokio::select! { () = woken => {} () = sleep(wait) => {} }
            }
        }
    }
}

fn delivery(receipt: Receipt) -> Delivery<Receipt> {
    Delivery {
        stored: Arc::clone(&receipt.stored),
        attempt: receipt.attempt,
        since: receipt.since,
        receipt,
    }
}

/// `None` if a repair noted that it is lost.
async fn event_of(lease: &Lease) -> Result<Option<Arc<StoredEvent>>, QueueError> {
    let (shared, seq) = (&lease.shared, lease.seq);
    if let Some(stored) = shared.state().cached(&lease.handler, seq) {
        return Ok(Some(stored));
    }
    // One reads the group, and those who need it, too, find it then.
    let turn = Arc::clone(&shared.state().handler(&lease.handler)?.turn);
    let _turn = turn.lock().await;
    if let Some(stored) = shared.state().cached(&lease.handler, seq) {
        return Ok(Some(stored));
    }
    let groups = shared.read(move |view| groups_from(view, seq)).await?;
    let Some(group) = groups.front() else {
        // Its record cannot have been deleted: this handler is not past it.
        return Err(shared.damaged(&keys::event(seq), MISSING));
    };
    let stored = group.event(seq);
    if let Ok(handler) = shared.state().handler(&lease.handler) {
        handler.read(groups);
    }
    Ok(stored)
}

/// `None` if it is no longer this retry.
async fn retry_of(lease: Lease, due: u64) -> Result<Option<Receipt>, QueueError> {
    let key = keys::retry(due, &lease.handler, lease.seq);
    let read = {
        let key = key.clone();
        move |view: &View| entry(view, &key, |value| Tried::decode(RETRY, value))
    };
    let Some(tried) = lease.shared.read(read).await? else {
        let now_due = lease.shared.state().handler(&lease.handler)?.retries.due(lease.seq);
        if now_due == Some(due) {
            return Err(lease.shared.damaged(&key, MISSING));
        }
        // A reopening found it settled otherwise, or due at another time.
        return Ok(None);
    };
    let attempt = tried.attempts.saturating_add(1);
    Ok(Some(Receipt { lease, stored: Arc::new(tried.stored), attempt, since: tried.since }))
}
