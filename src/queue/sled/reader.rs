//! The reading side: leases and deliveries, and listings for people.
//!
//! Reads go to memory first, else to sled on a thread that may block. Nothing here writes.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::{
    Options,
    database::Db,
    entry::Tried,
    keys, long,
    record::{Head, MISSING, decode_group},
    state::{Job, State},
    tail::Group,
    watchdog::Watchdog,
    wire::{Kind, Malformed, Stub},
};
use crate::{
    clock::{Clock, Timestamp},
    metrics::Metrics,
    name::HandlerName,
    queue::{Delivery, QueueError, StoredEvent},
};

/// Longest wait before the clock is looked at again: it can be set, and a test moves it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A start reads a log whole, and so finds any damage at once, while it is small enough to be read in
/// a moment: with that much packed, and at most 16 MiB that is not. A larger one is checked as it is
/// read, and by `brevdue verify`.
const READ_WHOLE: u64 = 64 * 1024 * 1024;

/// With a record of the log so many more are read at most, up to so many bytes.
const AHEAD: usize = 64;
const AHEAD_BYTES: usize = 64 * 1024;

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) wake_writer: Notify,
    /// A read failed as only a broken database fails: the writer is to reopen it.
    pub(super) broken: AtomicBool,
    pub(super) watchdog: Watchdog,
    /// A log whose packed part has at most so many bytes is read whole at start.
    pub(super) read_whole: u64,
    /// Something that was read was damaged, and that was said.
    told: AtomicBool,
    state: Mutex<State>,
    db: RwLock<Option<Db>>,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error("a value is damaged: {0}")]
    Damaged(#[from] Malformed),
    #[error("{what}: {error}", what = keys::name(.0), error = .1)]
    Entry(Vec<u8>, Malformed),
}

impl ReadError {
    /// Says which entry it is that is damaged.
    pub(super) fn of(self, key: &[u8]) -> Self {
        match self {
            Self::Damaged(error) => Self::Entry(key.to_vec(), error),
            other @ (Self::Sled(_) | Self::Entry(..)) => other,
        }
    }
}

impl Shared {
    pub(super) fn new(
        options: Options,
        clock: Clock,
        metrics: Metrics,
        watchdog: Watchdog,
    ) -> Self {
        Self {
            options,
            clock,
            metrics,
            wake_writer: Notify::new(),
            broken: AtomicBool::new(false),
            watchdog,
            read_whole: READ_WHOLE,
            told: AtomicBool::new(false),
            state: Mutex::new(State::new()),
            db: RwLock::new(None),
        }
    }

    /// The state; a holder that panicked cannot have left it half changed in a way that matters.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another database in place, or none; waits for reads under way.
    pub(super) fn set_db(&self, db: Option<Db>) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
    }

    /// Reads from the database.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Db) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let db = shared.db.read().unwrap_or_else(PoisonError::into_inner);
            match db.as_ref() {
                Some(db) => read(db).map_err(|error| shared.failed(&error)),
                None => Err(shared.absent()),
            }
        });
        task.await.unwrap_or_else(|panic| Err(QueueError::Unavailable(panic.to_string())))
    }

    fn failed(&self, error: &ReadError) -> QueueError {
        match error {
            ReadError::Sled(_) => {
                self.broken.store(true, Ordering::Relaxed);
                self.wake_writer.notify_one();
                QueueError::Unavailable(error.to_string())
            }
            ReadError::Damaged(_) | ReadError::Entry(..) => self.tell(&error.to_string()),
        }
    }

    /// An entry is not as it was written. The store goes on with what is whole: it takes events,
    /// and delivers up to there. Only a repair can go on behind it without passing by in silence.
    pub(super) fn damaged(&self, key: &[u8], error: Malformed) -> QueueError {
        self.tell(&ReadError::Entry(key.to_vec(), error).to_string())
    }

    fn tell(&self, why: &str) -> QueueError {
        self.metrics.store_damaged.set(1);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                %why,
                "the store is damaged, and what is damaged is not delivered: stop brevdue; \
                 `brevdue verify` says what is whole, `brevdue verify --repair` goes on with that"
            );
        }
        QueueError::Unavailable(format!("it is damaged, see `brevdue verify`: {why}"))
    }

    fn absent(&self) -> QueueError {
        if self.state().closed {
            QueueError::Closed
        } else {
            QueueError::Unavailable("it is being reopened".into())
        }
    }
}

/// A delivery given out. Dropped while it is held, it is given back.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    pub(super) handler: HandlerName,
    pub(super) seq: u64,
    /// When it was due, if it is a retry.
    pub(super) due: Option<u64>,
    held: bool,
}

impl Lease {
    fn new(shared: &Arc<Shared>, handler: &HandlerName, seq: u64, due: Option<u64>) -> Self {
        Self { shared: Arc::clone(shared), handler: handler.clone(), seq, due, held: true }
    }

    /// It was settled: nothing is to be given back.
    pub(super) fn end(mut self) {
        self.held = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        if let Some(place) = self.shared.state().places.get_mut(&self.handler) {
            place.release(self.seq, self.due);
        }
    }
}

/// Proof that a delivery is ours to settle; dropped, the delivery is given out again.
#[derive(Debug)]
pub struct Receipt {
    pub(super) lease: Lease,
    pub(super) stored: Arc<StoredEvent>,
    pub(super) attempt: u32,
    pub(super) since: Timestamp,
}

/// The next delivery; waits for one.
pub(super) async fn take(
    shared: &Arc<Shared>,
    handler: &HandlerName,
) -> Result<Delivery<Receipt>, QueueError> {
    loop {
        let wake = Arc::clone(&shared.state().place(handler)?.wake);
        let mut woken = pin!(wake.notified());
        // Before looking, or what comes between looking and waiting would be missed.
        woken.as_mut().enable();
        let now = shared.clock.now();
        let job = shared.state().job(handler, now)?;
        match job {
            Job::Event(seq) => {
                let lease = Lease::new(shared, handler, seq, None);
                if let Some(stored) = event_of(&lease).await? {
                    return Ok(delivery(Receipt { lease, stored, attempt: 1, since: now }));
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
                let wait = until.since(now).clamp(Duration::from_millis(1), LOOK_AGAIN);
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

/// None if a repair noted that it is lost.
async fn event_of(lease: &Lease) -> Result<Option<Arc<StoredEvent>>, QueueError> {
    let (shared, seq) = (&lease.shared, lease.seq);
    if let Some(stored) = shared.state().recent(&lease.handler, seq) {
        return Ok(Some(stored));
    }
    // One reads the group, and those who need it, too, find it then.
    let turn = Arc::clone(&shared.state().place(&lease.handler)?.turn);
    let _turn = turn.lock().await;
    if let Some(stored) = shared.state().recent(&lease.handler, seq) {
        return Ok(Some(stored));
    }
    let groups = shared.read(move |db| groups_from(db, seq)).await?;
    let Some(group) = groups.first() else {
        // Its record cannot have been deleted: this handler is not past it.
        return Err(shared.damaged(&keys::event(seq), MISSING));
    };
    let stored = group.event(seq);
    if let Ok(place) = shared.state().place(&lease.handler) {
        place.read(groups);
    }
    Ok(stored)
}

async fn retry_of(lease: Lease) -> Result<Option<Receipt>, QueueError> {
    let key = keys::retry(lease.due.unwrap_or_default(), &lease.handler, lease.seq);
    let tried = lease
        .shared
        .read(move |db| {
            let Some(value) = db.get(&key)? else { return Ok(None) };
            let whole = long::whole(db, &key, &value)?;
            Ok(whole.map(|value| Tried::decode(Kind::Retry, &value)).transpose()?)
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

/// The group that holds this event; without events if a repair noted that they are lost.
pub(super) fn group_of(db: &Db, seq: u64) -> Result<Option<Group>, ReadError> {
    let Some(entry) = db.range(keys::event(0)..=keys::event(seq)).next_back() else {
        return Ok(None);
    };
    let (key, value) = entry?;
    let group = group(db, &key, &value).map_err(|error| error.of(&key))?;
    db.pump(&key)?;
    // The record before a hole is another one.
    let group = group.filter(|(head, _)| seq < head.end());
    Ok(group.map(|(head, events)| Group::new(head.first, events)))
}

/// That group and some of those behind it, since they are wanted next; none if there is no such
/// group. What is wrong behind the first one is told when its turn comes.
fn groups_from(db: &Db, seq: u64) -> Result<Vec<Group>, ReadError> {
    let mut groups: Vec<Group> = group_of(db, seq)?.into_iter().collect();
    let Some(first) = groups.first() else { return Ok(groups) };
    let (mut end, mut bytes) = (first.end(), first.bytes());
    let mut last = None;
    for entry in db.range(keys::event(end)..keys::all(keys::EVENTS).end).take(AHEAD) {
        let Ok((key, value)) = entry else { break };
        bytes += value.len();
        if bytes > AHEAD_BYTES || Stub::of(&value).is_some() {
            break;
        }
        match group(db, &key, &value) {
            Ok(Some((head, events))) if head.first == end && !events.is_empty() => {
                end = head.end();
                last = Some(key);
                groups.push(Group::new(head.first, events));
            }
            Ok(_) | Err(_) => break,
        }
    }
    if let Some(key) = last {
        db.pump(&key)?;
    }
    Ok(groups)
}

/// What is under this key; None if it was deleted meanwhile.
pub(super) fn group(
    db: &Db,
    key: &[u8],
    value: &[u8],
) -> Result<Option<(Head, Vec<StoredEvent>)>, ReadError> {
    let Some(value) = long::whole(db, key, value)? else { return Ok(None) };
    let (head, events) = decode_group(&value)?;
    Ok(Some((head.checked(key)?, events)))
}
