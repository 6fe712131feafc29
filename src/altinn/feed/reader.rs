//! Reads one subscription's feed for as long as the daemon runs.
//!
//! Owns the when, and the order of things: a cursor is kept only together with what was read up to
//! it, and the first cursor is there before Altinn is asked for the subscription.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    OnStored, Timing,
    client::{Content, Pages},
    cursor::Cursor,
    filters::Filters,
    pager::{Chunk, Outcome, Page, Pager, SIZE},
    push_gap::PushGap,
};
use crate::{
    altinn::{
        budget::Budget, events_api::ApiError, http::error_text::ErrorText,
        subscriptions::status::Status,
    },
    backoff::spread,
    clock::{Clock, Timestamp},
    event::{Arrival, Event},
    name::HookName,
    queue::{
        Appended, Bookmark, BookmarkName, Failure, Queue, QueueError, RawIdentity, RawPush, StartAt,
    },
    source::membership::{self, Membership},
};

/// After so many failures in a row pages are half as large.
const PATIENCE: u32 = 3;
/// Pages that may follow each other as quickly as Altinn gives them; then one in each pause.
const PAGES_AT_WILL: u32 = 200;
const PAGE_PACE: Duration = Duration::from_millis(100);
/// Clocks may differ by so much, where an event's time must do.
const SKEW: Duration = Duration::from_secs(300);

/// What all readers have in common.
pub struct Common<Q, P> {
    /// Where events go.
    pub queue: Q,
    /// Where they come from.
    pub pages: P,
    /// All configured subscriptions.
    pub subscriptions: Arc<Vec<Membership>>,
    /// What Altinn says of them.
    pub state: watch::Receiver<Status>,
    /// Told which way events come.
    pub watch: PushGap,
    /// Told of what was stored.
    pub on_stored: OnStored,
    /// So many pages are held in memory.
    pub pages_at_once: Arc<Semaphore>,
    /// How often.
    pub timing: Timing,
    /// Now.
    pub clock: Clock,
}

impl<Q: Clone, P: Clone> Clone for Common<Q, P> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            pages: self.pages.clone(),
            subscriptions: Arc::clone(&self.subscriptions),
            state: self.state.clone(),
            watch: self.watch.clone(),
            on_stored: Arc::clone(&self.on_stored),
            pages_at_once: Arc::clone(&self.pages_at_once),
            timing: self.timing,
            clock: self.clock.clone(),
        }
    }
}

/// Reads one subscription's feed.
pub struct Reader<Q, P> {
    /// Which.
    pub name: HookName,
    /// What is asked for.
    pub filters: Filters,
    /// Where it begins.
    pub start: StartAt,
    /// What its cursor is kept under.
    pub bookmark: BookmarkName,
    /// Dropped when the first cursor is there.
    pub ready: Option<mpsc::Sender<()>>,
    /// What could not be read in the last page that did not lead on.
    pub last: HashSet<RawIdentity>,
    /// The rest.
    pub common: Common<Q, P>,
}

impl<Q, P> fmt::Debug for Reader<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a reading ended before the feed did.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The feed did not answer as it should.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It does not go on.
    #[error("{0}")]
    Stuck(&'static str),
    /// The store is being closed.
    #[error("the queue is closing")]
    Closed,
}

impl Trouble {
    fn text(&self) -> ErrorText {
        match self {
            Self::Api(error) => error.text(),
            Self::Stuck(_) | Self::Closed => ErrorText::new(&self.to_string()),
        }
    }

    /// Whether only a person, or time, can help.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Api(error) => error.concerns_one(),
            Self::Stuck(_) => true,
            Self::Closed => false,
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Api(error) => error.retry_after().unwrap_or_default(),
            Self::Stuck(_) | Self::Closed => Duration::ZERO,
        }
    }
}

impl<Q: Queue, P: Pages> Reader<Q, P> {
    /// Reads until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // Cancelled anywhere, nothing is lost: the cursor is kept with what was read, or not at all.
        if stop.run_until_cancelled(self.read_for_ever()).await.is_some() {
            // The store is closing, which is how it ends too.
            stop.cancelled().await;
        }
        Ok(())
    }

    /// Ends when the store is closed.
    async fn read_for_ever(&mut self) {
        let Some(mut cursor) = self.begin().await else { return };
        let mut failures = 0;
        let mut budget = Budget::new(PAGES_AT_WILL, PAGE_PACE);
        loop {
            let began = Instant::now();
            // A page of a thousand may be more than Altinn can check in time.
            let size = (SIZE >> (failures / PATIENCE).min(5)).max(1);
            let read = self.read(&mut cursor, size, &mut budget).await;
            let wait = match &read {
                Ok(()) => {
                    failures = 0;
                    None
                }
                Err(Trouble::Closed) => return,
                Err(trouble) => {
                    failures = failures.saturating_add(1);
                    Some(self.pause(trouble, failures))
                }
            };
            self.common.watch.read(&self.name, read.err().map(|trouble| trouble.text()));
            match wait {
                // Altinn may have taken long to say no, and is left alone from then on.
                Some(wait) => sleep(wait).await,
                None => self.rest(began).await,
            }
        }
    }

    fn pause(&self, trouble: &Trouble, failures: u32) -> Duration {
        let Timing { interval, retry, .. } = self.common.timing;
        let wait =
            if trouble.is_lasting() { spread(interval) } else { retry.random_delay(failures) };
        wait.max(trouble.retry_after())
    }

    /// Until the next reading is due; a subscription that has changed makes it due earlier.
    async fn rest(&mut self, began: Instant) {
        loop {
            let pace = spread(self.pace());
            let mut state = self.common.state.clone();
            tokio::select! {
                () = sleep_until(began + pace) => return,
                Ok(()) = state.changed() => {
                    // Seen by this clone, and by ours.
                    self.common.state.mark_unchanged();
                }
            }
        }
    }

    fn pace(&self) -> Duration {
        let Timing { interval, quick, settle, .. } = self.common.timing;
        let now = self.common.clock.now();
        let fresh = self.fresh().is_some_and(|since| now.since(since) < settle);
        if fresh { quick } else { interval }
    }

    /// When the subscription was last made, or validated after that, by this process.
    fn fresh(&self) -> Option<Timestamp> {
        let state = self.common.state.borrow();
        let known = state.subscriptions.get(&self.name)?;
        known.posted.map(|posted| known.since.unwrap_or(posted).max(posted))
    }

    /// The kept cursor, or the first one; `None` when the store is closed.
    async fn begin(&mut self) -> Option<Cursor> {
        let begun = self.common.clock.now();
        let kept = self.kept().await?;
        let cursor = match kept {
            Some(cursor) => cursor,
            None => self.first(begun).await?,
        };
        self.ready = None;
        Some(cursor)
    }

    async fn kept(&mut self) -> Option<Option<Cursor>> {
        let bookmark = self.bookmark.clone();
        let ask = |queue: Q| {
            let bookmark = bookmark.clone();
            async move { queue.bookmark(&bookmark).await }
        };
        let kept = self.when_the_store_can(ask).await?;
        let read = kept.map(|place| Cursor::decode(&place)).transpose();
        Some(read.unwrap_or_else(|_| {
            tracing::error!(subscription = %self.name, "the kept cursor of the feed cannot be read; the last two days are read again");
            let two_days = Duration::from_secs(2 * 24 * 3600);
            Some(Cursor::since(self.common.clock.now().before(two_days)))
        }))
    }

    /// Where a subscription begins whose feed was not read before.
    async fn first(&mut self, begun: Timestamp) -> Option<Cursor> {
        let cursor = match self.start {
            StartAt::Oldest => Cursor::oldest(begun),
            StartAt::Now => match self.end_of_feed(begun).await {
                Ok(cursor) => cursor,
                Err(trouble) => {
                    let why = trouble.text();
                    tracing::warn!(subscription = %self.name, %why, "the feed's end cannot be found; its events are taken in by their time");
                    Cursor::since(begun.before(SKEW))
                }
            },
        };
        self.keep(Vec::new(), &cursor).await?;
        let start = match self.start {
            StartAt::Oldest => "oldest",
            StartAt::Now => "now",
        };
        tracing::info!(subscription = %self.name, start, "begins to read the feed");
        Some(cursor)
    }

    async fn end_of_feed(&self, begun: Timestamp) -> Result<Cursor, Trouble> {
        let mut paging = Pager::discard(begun);
        let mut budget = Budget::new(PAGES_AT_WILL, PAGE_PACE);
        let slots = Arc::clone(&self.common.pages_at_once);
        loop {
            sleep_until(budget.take()).await;
            // Never closed. Held until of the page there is only its last id.
            let _slot = slots.acquire().await;
            let page = self.page(&paging).await?;
            match paging.answered(page, self.common.clock.now()) {
                Outcome::Again | Outcome::Take(_) => {}
                Outcome::End(cursor) => return Ok(cursor.unwrap_or(Cursor::oldest(begun))),
                Outcome::Stuck(why) | Outcome::Last(_, why) => return Err(Trouble::Stuck(why)),
            }
        }
    }

    async fn page(&self, paging: &Pager<Content>) -> Result<Page<Content>, Trouble> {
        let page = self.common.pages.page(&self.filters, paging.ask()).await?;
        let last = match &page {
            Page::Items(items) => items.last().and_then(|item| item.time),
            Page::TooLarge => None,
        };
        self.common.watch.paged(&self.name, last);
        Ok(page)
    }

    /// From the cursor to the end, `size` items at a time.
    async fn read(
        &mut self,
        cursor: &mut Cursor,
        size: usize,
        budget: &mut Budget,
    ) -> Result<(), Trouble> {
        let mut paging = Pager::resume(cursor.clone(), self.start, size);
        let slots = Arc::clone(&self.common.pages_at_once);
        loop {
            sleep_until(budget.take()).await;
            // Never closed. Held until what the page brought is stored.
            let _slot = slots.acquire().await;
            let known = !paging.restarted();
            let page = self.page(&paging).await?;
            let outcome = paging.answered(page, self.common.clock.now());
            if known && paging.restarted() {
                tracing::warn!(subscription = %self.name, "Altinn does not know the feed's cursor any more and begins at the oldest event; what is older than two days before the cursor is left out, unless start_from is \"oldest\"");
            }
            match outcome {
                Outcome::Again => {}
                Outcome::Take(chunks) => {
                    for chunk in chunks {
                        *cursor = self.take(chunk).await.ok_or(Trouble::Closed)?;
                    }
                }
                Outcome::End(end) => {
                    if let Some(end) = end {
                        self.keep(Vec::new(), &end).await.ok_or(Trouble::Closed)?;
                        *cursor = end;
                    }
                    return Ok(());
                }
                Outcome::Stuck(why) => return Err(Trouble::Stuck(why)),
                Outcome::Last(chunk, why) => {
                    let chunk = self.not_again(chunk);
                    self.take(chunk).await.ok_or(Trouble::Closed)?;
                    return Err(Trouble::Stuck(why));
                }
            }
        }
    }

    /// A page that does not lead on comes again with each reading: what was kept of it once is not
    /// kept again.
    fn not_again(&mut self, mut chunk: Chunk<Content>) -> Chunk<Content> {
        let before = std::mem::take(&mut self.last);
        let mut kept = HashSet::new();
        chunk.items.retain(|content| match content {
            Content::Event(_) => true,
            Content::Unreadable { body, .. } => {
                let identity = self.raw(body.clone()).identity();
                kept.insert(identity) && !before.contains(&identity)
            }
        });
        self.last = kept;
        chunk
    }

    fn raw(&self, body: bytes::Bytes) -> RawPush {
        let media_type = "application/cloudevents+json".to_owned();
        RawPush { hook: self.name.clone(), media_type, body }
    }

    /// Stores a chunk and its cursor, however long the store takes; `None` when it is closed.
    async fn take(&mut self, chunk: Chunk<Content>) -> Option<Cursor> {
        let Chunk { items, old, cursor } = chunk;
        let mut arrivals = Vec::new();
        let mut others = 0;
        for content in items {
            match content {
                Content::Event(event) if self.is_ours(&event) => {
                    let subscriptions = &self.common.subscriptions;
                    arrivals.push(membership::arrival(subscriptions, &self.name, event));
                }
                Content::Event(_) => others += 1,
                Content::Unreadable { body, reason } => self.bury(body, reason).await?,
            }
        }
        let appended = self.keep(arrivals.clone(), &cursor).await?;
        self.common.watch.skipped(&self.name, "old", old);
        self.common.watch.skipped(&self.name, "other", others);
        let fresh = self.fresh();
        for (arrival, appended) in arrivals.iter().zip(appended) {
            self.note(arrival, appended, fresh);
        }
        Some(cursor)
    }

    fn is_ours(&self, event: &Event) -> bool {
        let mut own = self.common.subscriptions.iter().filter(|own| *own.name() == self.name);
        own.any(|own| own.matches(event.attributes()))
    }

    fn note(&self, arrival: &Arrival, appended: Appended, fresh: Option<Timestamp>) {
        self.common.watch.fed(&self.name, arrival, appended, fresh);
        if appended == Appended::Duplicate {
            return;
        }
        if let Some(rule) = arrival.event.oddity() {
            self.common.watch.odd(&self.name);
            tracing::warn!(subscription = %self.name, %rule, "an event that breaks a rule of CloudEvents was stored");
        }
        (self.common.on_stored)(arrival);
        let event = arrival.event.attributes();
        tracing::info!(
            event.id = %event.id, event.source = %event.source, event.type = %event.ty,
            subscription = %self.name, outcome = "stored", "event from the feed"
        );
    }

    /// Stores these and the cursor; waits while the store takes nothing. `None` when it is closed.
    async fn keep(&mut self, arrivals: Vec<Arrival>, cursor: &Cursor) -> Option<Vec<Appended>> {
        let bookmark = Bookmark { name: self.bookmark.clone(), place: cursor.encode() };
        self.when_the_store_can(|queue| {
            let (arrivals, bookmark) = (arrivals.clone(), bookmark.clone());
            async move { queue.append_with(arrivals, Some(bookmark)).await }
        })
        .await
    }

    async fn bury(&mut self, body: bytes::Bytes, reason: String) -> Option<()> {
        let push = self.raw(body);
        let failure = Failure { reason: format!("from the feed: {reason}"), answer: None };
        self.when_the_store_can(|queue| {
            let (push, failure) = (push.clone(), failure.clone());
            async move { queue.bury_raw(push, failure).await }
        })
        .await?;
        self.common.watch.skipped(&self.name, "unreadable", 1);
        tracing::warn!(subscription = %self.name, reason, "kept an item of the feed that is no CloudEvent as a dead letter");
        Some(())
    }

    /// Asks the store until it does it, with growing pauses; `None` when it is closed.
    async fn when_the_store_can<T, F>(&mut self, ask: impl Fn(Q) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut failures = 0_u32;
        loop {
            match ask(self.common.queue.clone()).await {
                Ok(done) => return Some(done),
                Err(QueueError::Closed) => return None,
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(subscription = %self.name, %error, "the feed waits for the store");
                    }
                    failures = failures.saturating_add(1);
                    // Subscribing does not wait for the store: what is pushed meanwhile comes again.
                    self.ready = None;
                    sleep(self.common.timing.store.random_delay(failures)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
