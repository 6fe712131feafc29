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
            read_error::{ReadError, whole},
            shared::Shared,
            state::handler::Job,
        },
    },
};

/// Longest wait before the clock is looked at again: a test moves it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A delivery given out. Dropped while it is held, it is given back.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    pub(crate) handler: HandlerName,
    pub(crate) seq: u64,
    /// When it was due, if it is a retry.
    pub(crate) due: Option<u64>,
    held: bool,
}

impl Lease {
    fn new(shared: &Arc<Shared>, handler: &HandlerName, seq: u64, due: Option<u64>) -> Self {
        Self { shared: Arc::clone(shared), handler: handler.clone(), seq, due, held: true }
    }

    /// It was settled: nothing is to be given back.
    pub(crate) fn end(mut self) {
        self.held = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        if let Some(handler) = self.shared.state().handlers.get_mut(&self.handler) {
            handler.release(self.seq, self.due);
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
                let lease = Lease::new(shared, handler, seq, None);
                if let Some(stored) = event_of(&lease).await? {
                    let since = shared.clock.now();
                    return Ok(delivery(Receipt { lease, stored, attempt: 1, since }));
                }
                // It was lost, and a repair has told so.
                shared.state().settled(handler, seq, None);
                lease.end();
            }
            Job::Retry(seq, due) => {
                let lease = Lease::new(shared, handler, seq, Some(due));
                if let Some(receipt) = retry_of(lease).await? {
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
    let Some(group) = groups.first() else {
        // Its record cannot have been deleted: this handler is not past it.
        return Err(shared.damaged(&keys::event(seq), MISSING));
    };
    let stored = group.event(seq);
    if let Ok(handler) = shared.state().handler(&lease.handler) {
        handler.read(groups);
    }
    Ok(stored)
}

async fn retry_of(lease: Lease) -> Result<Option<Receipt>, QueueError> {
    let key = keys::retry(lease.due.unwrap_or_default(), &lease.handler, lease.seq);
    let tried = lease
        .shared
        .read(move |view| {
            let Some(value) = view.get(&key)? else { return Ok(None) };
            let whole = whole(view, &key, &value).map_err(|error| error.of(&key))?;
            let tried = whole.map(|value| Tried::decode(RETRY, &value)).transpose();
            tried.map_err(|error| ReadError::from(error).of(&key))
        })
        .await?;
    let Some(tried) = tried else {
        // A reopening found it settled otherwise.
        lease.shared.state().settled(&lease.handler, lease.seq, lease.due);
        lease.end();
        return Ok(None);
    };
    let attempt = tried.attempts.saturating_add(1);
    Ok(Some(Receipt { lease, stored: Arc::new(tried.stored), attempt, since: tried.since }))
}
