//! The queue: a log of stored events, and a place in it for every handler.
//!
//! Owns the contract that any store keeps, and the words for it. How it is kept on disk is the
//! store's ([`sled`]); a store on JetStream (one stream, a durable consumer per handler) fits the
//! same contract, so nothing outside a store does arithmetic on a [`Seq`].

pub mod dead_letter;
pub mod model;
pub mod sled;
mod stored;

use std::{future::Future, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::dead_letter::{
    DeadLetter, DeadLetterId, Failure, InvalidDeadLetterId, Letter, RAW, RawIdentity, RawPush,
};
pub use self::stored::{Seq, StoredEvent};
use crate::{clock::Timestamp, event::Arrival, name::HandlerName};

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log.
    Stored(Seq),
    /// It was stored before, within the dedup window; that, too, is durable now.
    Duplicate,
}

/// The name of a [`Bookmark`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BookmarkName(String);

/// A text that cannot name a bookmark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a bookmark's name has 1 to 200 bytes")]
pub struct InvalidBookmarkName;

impl FromStr for BookmarkName {
    type Err = InvalidBookmarkName;

    fn from_str(text: &str) -> Result<Self, InvalidBookmarkName> {
        let fits = (1..=200).contains(&text.len());
        fits.then(|| Self(text.to_owned())).ok_or(InvalidBookmarkName)
    }
}

impl BookmarkName {
    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How far someone has read elsewhere: a few bytes that are kept until they are replaced, and that
/// are replaced together with what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    /// Whose.
    pub name: BookmarkName,
    /// What it says; at most [`Bookmark::MAX_PLACE`] bytes.
    pub place: Bytes,
}

impl Bookmark {
    /// Longest place, in bytes.
    pub const MAX_PLACE: usize = 16 * 1024;
}

/// What is stored together, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intake {
    /// Events for the log.
    pub arrivals: Vec<Arrival>,
    /// Undecodable pushes and what is wrong with them. Each is kept as a dead letter; a letter that
    /// there is of it ([`RawIdentity`]) stays as it is.
    pub undecodable: Vec<(RawPush, Failure)>,
    /// Replaced.
    pub bookmark: Option<Bookmark>,
}

/// One event on its way to one handler. Settle it; one that is dropped unsettled is taken again.
#[must_use]
#[derive(Debug)]
pub struct Delivery<R> {
    /// What to deliver.
    pub stored: Arc<StoredEvent>,
    /// Counts from 1, over restarts and revivals.
    pub attempt: u32,
    /// When the time that a handler has for it began: its first attempt, or its revival.
    pub since: Timestamp,
    /// Proof that it is ours to settle.
    pub receipt: R,
}

/// What is to become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The handler has it, or it is none of the handler's.
    Done,
    /// Again, this much later.
    RetryAfter(Duration, Failure),
    /// To the dead letters.
    Bury(Failure),
}

/// A part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// At most so many.
    pub limit: usize,
    /// The newest instead of the oldest; both are listed oldest first.
    pub newest: bool,
}

/// What is in the queue, for people and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Events in the log.
    pub events: u64,
    /// Bytes that they, the waiting retries and the dead letters take.
    pub live_bytes: u64,
    /// Ids in the dedup window.
    pub dedup_ids: u64,
    /// Undecodable pushes kept.
    pub raw_dead_letters: u64,
    /// One entry for each handler, in the order of their names.
    pub handlers: Vec<HandlerCensus>,
}

/// How far one handler is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerCensus {
    /// Which.
    pub name: HandlerName,
    /// False for one that left the configuration: it keeps its place for a while, and holds nothing.
    pub configured: bool,
    /// Events in the log that it has not tried, and all that is in flight.
    pub pending: u64,
    /// Deliveries that wait for their next attempt.
    pub retrying: u64,
    /// Deliveries in flight.
    pub in_flight: u64,
    /// Deliveries given up.
    pub dead_letters: u64,
    /// It gets nothing until it is resumed.
    pub paused: bool,
    /// When the oldest event that it has not settled was stored, waiting retries included.
    pub oldest: Option<Timestamp>,
}

/// Where a handler that the store does not know yet begins in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StartAt {
    /// With what comes from now on.
    #[default]
    Now,
    /// With the oldest event retained.
    Oldest,
}

/// From where on a handler gets the events of the log again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// The oldest retained.
    Oldest,
    /// This one. If it left the log, the first that is still there.
    Seq(Seq),
    /// The first that was stored then or later.
    Time(Timestamp),
}

/// A text that does not say from where on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not `oldest`, the number of an event, or a time such as 2026-08-20T10:00:00Z")]
pub struct InvalidReplayFrom;

impl FromStr for ReplayFrom {
    type Err = InvalidReplayFrom;

    fn from_str(text: &str) -> Result<Self, InvalidReplayFrom> {
        if text == "oldest" {
            return Ok(Self::Oldest);
        }
        let number = text.parse().map(Self::Seq);
        number.or_else(|_| text.parse().map(Self::Time).map_err(|_| InvalidReplayFrom))
    }
}

/// Why the queue did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// At a limit; it heals when room is made. Answer 503.
    #[error("the queue is full: {0}")]
    Full(&'static str),
    /// The store cannot write or read; it heals by itself or by an operator. Answer 503.
    #[error("the store does not work: {0}")]
    Unavailable(String),
    /// Being closed. Answer 503.
    #[error("the queue is closing")]
    Closed,
    /// No such event, dead letter or handler.
    #[error("not found")]
    NotFound,
    /// A raw dead letter has no handler to go to.
    #[error("an undecodable push has no handler that it could be retried with")]
    Undeliverable,
    /// A replay would begin after the handler's place, which is this, and so skip events.
    #[error("the handler has not come so far: it is at event {0}, and a replay skips none")]
    NotSoFar(Seq),
    /// The handler is in the configuration.
    #[error("the handler is configured: only one that left the configuration can be forgotten")]
    Configured,
}

/// Whether the store takes events and delivers all that it has: readiness, `status` and the metrics
/// say what this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// It delivers, and refuses events until there is room again; at which limit it is.
    Full(&'static str),
    /// Something in it is not as it was written, and what: it takes events, and delivers what is
    /// whole. Only an operator can mend that, so it stands before [`Health::Full`].
    Damaged(String),
    /// It does not work, and why.
    Failing(String),
}

impl Health {
    /// Why the store is not ready; `None` if it is.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Writable => None,
            Self::Full(limit) => Some(QueueError::Full(limit).to_string()),
            Self::Damaged(why) => {
                Some(format!("the store is damaged, see `brevdue verify`: {why}"))
            }
            Self::Failing(why) => Some(why.clone()),
        }
    }
}

/// The contract of a store. All of it is safe to call at the same time, and to cancel: a cancelled
/// call has happened or not, never half.
pub trait Queue: Clone + Send + Sync + 'static {
    /// Proof that a delivery is ours to settle. Not `Clone`: a delivery is settled once.
    type Receipt: Send + 'static;

    /// Stores all of it or nothing; what became of the arrivals. `Ok` means that it survives power
    /// loss.
    fn take_in(
        &self,
        intake: Intake,
    ) -> impl Future<Output = Result<Vec<Appended>, QueueError>> + Send;

    /// Stores all of these or none. `Ok` means that they survive power loss.
    fn append(
        &self,
        arrivals: Vec<Arrival>,
    ) -> impl Future<Output = Result<Vec<Appended>, QueueError>> + Send {
        self.append_with(arrivals, None)
    }

    /// Stores all of these and the bookmark, or nothing. `Ok` means that they survive power loss.
    fn append_with(
        &self,
        arrivals: Vec<Arrival>,
        bookmark: Option<Bookmark>,
    ) -> impl Future<Output = Result<Vec<Appended>, QueueError>> + Send {
        self.take_in(Intake { arrivals, bookmark, ..Intake::default() })
    }

    /// What the bookmark of this name says.
    fn bookmark(
        &self,
        name: &BookmarkName,
    ) -> impl Future<Output = Result<Option<Bytes>, QueueError>> + Send;

    /// Keeps an undecodable push as a dead letter, or leaves the letter that there is of it
    /// ([`RawIdentity`]) as it is. `Ok` means that it survives power loss.
    fn bury_raw(
        &self,
        push: RawPush,
        failure: Failure,
    ) -> impl Future<Output = Result<(), QueueError>> + Send {
        let undecodable = vec![(push, failure)];
        let taken = self.take_in(Intake { undecodable, ..Intake::default() });
        async { taken.await.map(drop) }
    }

    /// The next delivery for `handler`: a retry that is due, else the next in the log; waits for
    /// one. It is leased until its receipt is settled or dropped.
    fn take(
        &self,
        handler: &HandlerName,
    ) -> impl Future<Output = Result<Delivery<Self::Receipt>, QueueError>> + Send;

    /// Ends a delivery. `Ok` means that a retry or dead letter survives power loss; a `Done` may
    /// be forgotten by one for up to a second, and then the event is delivered again.
    fn settle(
        &self,
        receipt: Self::Receipt,
        verdict: Verdict,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Events in the log.
    fn events(
        &self,
        page: Page,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, QueueError>> + Send;

    /// One event in the log.
    fn event(&self, seq: Seq) -> impl Future<Output = Result<StoredEvent, QueueError>> + Send;

    /// Dead letters, of one handler or of all and the raw ones.
    fn dead_letters(
        &self,
        handler: Option<&HandlerName>,
        page: Page,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, QueueError>> + Send;

    /// The ids of all dead letters of a handler, oldest first.
    fn dead_letter_ids(
        &self,
        handler: &HandlerName,
    ) -> impl Future<Output = Result<Vec<DeadLetterId>, QueueError>> + Send;

    /// One dead letter.
    fn dead_letter(
        &self,
        id: &DeadLetterId,
    ) -> impl Future<Output = Result<DeadLetter, QueueError>> + Send;

    /// Makes a dead letter a delivery again, due now: its attempts count on, its time begins anew.
    /// If a replay has the event on its way already, the letter only goes. An undecodable push has
    /// no handler to go to: decode it anew, append what it is, and discard it.
    fn revive(&self, id: &DeadLetterId) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Forgets a dead letter for ever.
    fn discard(&self, id: &DeadLetterId) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Sets a handler's place back: events of the log from there on that it has settled come to it
    /// again in their order, as if for the first time; so many there are. What is in flight or
    /// waits for a retry is left as it is and comes no second time, and dead letters stay.
    /// `Ok` means that it survives power loss.
    fn replay(
        &self,
        handler: &HandlerName,
        from: ReplayFrom,
    ) -> impl Future<Output = Result<u64, QueueError>> + Send;

    /// From now on [`Queue::take`] gives nothing to this handler, and its callers wait; or it goes
    /// on. What is in flight can be settled. `Ok` means that it survives power loss.
    fn pause(
        &self,
        handler: &HandlerName,
        paused: bool,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Forgets a handler that left the configuration: its place, its waiting retries and its dead
    /// letters. `Ok` means that it survives power loss.
    fn forget(&self, handler: &HandlerName) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// What is in it.
    fn census(&self) -> impl Future<Output = Result<Census, QueueError>> + Send;

    /// Whether it takes events and delivers all that it has, now.
    fn health(&self) -> Health;

    /// Writes down what is settled and stops. Calls that come later get [`QueueError::Closed`].
    fn close(&self) -> impl Future<Output = Result<(), QueueError>> + Send;
}
