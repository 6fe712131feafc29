//! What the admin API shows, as it is written in JSON; the command line reads the same types.
//!
//! Ids are strings, times RFC 3339 in UTC (design section 9). Subjects and bodies are shown here,
//! to those who may see them, and nowhere else.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::Timestamp,
    event::Arrival,
    queue::{self, Census, HandlerCensus, Letter, StoredEvent},
};

/// `{"error": …}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Error {
    /// What is wrong.
    pub error: String,
}

/// `/v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Whether hooks are answered, and the store takes events and is whole.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// `ok`, or `degraded` when a person should look.
    pub state: String,
    /// Why a person should look.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Whether the clock jumped within the last day, so that nothing is given up, deleted or
    /// forgotten for its age.
    #[serde(default)]
    pub clock_jumped: bool,
    /// One for each configured subscription.
    pub subscriptions: Vec<Subscription>,
    /// The stored events.
    pub log: Log,
    /// One for each handler that has a place in the log.
    pub handlers: Vec<Handler>,
}

/// `/v1/subscriptions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscription {
    /// Its configured name.
    pub name: String,
    /// Altinn's id, once known.
    pub id: Option<String>,
    /// `validated`, `not validated`, `missing` or `unknown`.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When Altinn was last asked, with success.
    pub last_checked: Option<Timestamp>,
    /// When an event last came by its hook.
    pub last_push: Option<Timestamp>,
    /// What went wrong last, if it has not gone right since.
    pub last_error: Option<String>,
    /// When the feed last had something that its reader had not read.
    #[serde(default)]
    pub last_feed_event: Option<Timestamp>,
    /// When the feed was last read to its end.
    #[serde(default)]
    pub last_feed_read: Option<Timestamp>,
    /// Events that a push brought first, since the start.
    #[serde(default)]
    pub events_by_push: u64,
    /// Events that the feed brought first, since the start.
    #[serde(default)]
    pub events_by_feed: u64,
    /// What is wrong with it.
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// The stored events.
#[derive(Debug, Serialize, Deserialize)]
pub struct Log {
    /// In the log.
    pub events: u64,
    /// Bytes that count against `queue.max_bytes`.
    pub live_bytes: u64,
    /// Identities remembered.
    pub dedup_ids: u64,
    /// Undecodable pushes kept.
    pub raw_dead_letters: u64,
    /// Events that no handler matched, since the start.
    pub unmatched: Unmatched,
}

/// Events that no handler matched.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Unmatched {
    /// How many.
    pub count: u64,
    /// The last one's type.
    pub last_type: Option<String>,
    /// When it came.
    pub last_at: Option<Timestamp>,
}

/// One handler's place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// False for one that left the configuration.
    pub configured: bool,
    /// Events not settled, those in flight included.
    pub pending: u64,
    /// In flight now.
    pub in_flight: u64,
    /// Waiting for their next attempt.
    pub retrying: u64,
    /// Given up.
    pub dead_letters: u64,
    /// It gets nothing until it is resumed.
    #[serde(default)]
    pub paused: bool,
    /// When the oldest that is not settled was stored.
    pub oldest: Option<Timestamp>,
}

/// `/v1/handlers/NAME/dead-letters/retry` and `…/discard`: one step. The next one is asked for with
/// `?snapshot=`, until nothing is left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bulk {
    /// Which letters are meant: those that were there at the first step.
    pub snapshot: String,
    /// Letters in the snapshot.
    pub total: usize,
    /// Letters to which it was done in this step.
    pub done: usize,
    /// Letters that were gone already.
    pub gone: usize,
    /// Letters that the next step is for.
    pub left: usize,
    /// Why the step ended early, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `/v1/handlers/NAME/replay`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    /// Whose.
    pub handler: String,
    /// So many it had settled, and gets again.
    pub events: u64,
}

/// `/v1/events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log.
    pub seq: String,
    /// When it was stored.
    pub received: Timestamp,
    /// The scope of its identity.
    pub origin: String,
    /// The subscriptions or sources it belongs to.
    pub from: Vec<String>,
    /// `CloudEvents` id.
    pub id: String,
    /// `CloudEvents` source.
    pub source: String,
    /// `CloudEvents` type.
    #[serde(rename = "type")]
    pub ty: String,
    /// `CloudEvents` subject.
    pub subject: Option<String>,
    /// What handlers get as `Idempotency-Key`.
    pub idempotency_key: String,
    /// The event as it came; only when one is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
}

/// `/v1/dead-letters`.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// What to call it.
    pub id: String,
    /// When it was given up.
    pub buried: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// The beginning of the handler's last answer.
    pub last_answer: Option<String>,
    /// The event, unless it could not be decoded.
    pub event: Option<Event>,
    /// The body that could not be decoded.
    pub raw: Option<Raw>,
}

/// An undecodable push.
#[derive(Debug, Serialize, Deserialize)]
pub struct Raw {
    /// The hook it came by.
    pub hook: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub length: usize,
    /// Its body as text, with what is not UTF-8 replaced; only when one is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Status {
    /// Puts together what is known.
    pub fn new(
        census: &Census,
        subscriptions: Vec<Subscription>,
        unmatched: Unmatched,
        not_ready: Option<String>,
        clock_jumped: bool,
    ) -> Self {
        let mut reasons: Vec<String> = not_ready.iter().cloned().collect();
        reasons.extend(subscriptions.iter().filter_map(Subscription::reason));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: not_ready.is_none(),
            not_ready,
            state: if reasons.is_empty() { "ok" } else { "degraded" }.to_owned(),
            reasons,
            clock_jumped,
            subscriptions,
            log: Log {
                events: census.events,
                live_bytes: census.live_bytes,
                dedup_ids: census.dedup_ids,
                raw_dead_letters: census.raw_dead_letters,
                unmatched,
            },
            handlers: census.handlers.iter().map(Handler::from).collect(),
        }
    }
}

impl Subscription {
    /// Why a person should look at it.
    fn reason(&self) -> Option<String> {
        let why = if !self.troubles.is_empty() {
            self.troubles.join("; ")
        } else if let Some(error) = &self.last_error {
            error.clone()
        } else if self.state == "validated" {
            return None;
        } else {
            self.state.clone()
        };
        Some(format!("subscription {}: {why}", self.name))
    }
}

impl From<&HandlerCensus> for Handler {
    fn from(census: &HandlerCensus) -> Self {
        Self {
            name: census.name.to_string(),
            configured: census.configured,
            pending: census.pending,
            in_flight: census.in_flight,
            retrying: census.retrying,
            dead_letters: census.dead_letters,
            paused: census.paused,
            oldest: census.oldest,
        }
    }
}

impl Event {
    /// Without the event itself.
    pub fn summary(stored: &StoredEvent) -> Self {
        let attributes = stored.event.attributes();
        Self {
            seq: stored.seq.to_string(),
            received: stored.received,
            origin: stored.origin.to_string(),
            from: stored.from.iter().map(ToString::to_string).collect(),
            id: attributes.id.clone(),
            source: attributes.source.clone(),
            ty: attributes.ty.clone(),
            subject: attributes.subject.clone(),
            idempotency_key: Arrival::idempotency_key(&stored.origin, attributes),
            event: None,
        }
    }

    /// With the event, byte for byte.
    pub fn whole(stored: &StoredEvent) -> Self {
        let json = String::from_utf8_lossy(stored.event.json()).into_owned();
        Self { event: RawValue::from_string(json).ok(), ..Self::summary(stored) }
    }
}

impl DeadLetter {
    /// Without bodies.
    pub fn summary(letter: &queue::DeadLetter) -> Self {
        Self::with(letter, Event::summary, |_| None)
    }

    /// With bodies.
    pub fn whole(letter: &queue::DeadLetter) -> Self {
        let text = |body: &[u8]| Some(String::from_utf8_lossy(body).into_owned());
        Self::with(letter, Event::whole, text)
    }

    fn with(
        letter: &queue::DeadLetter,
        event: impl Fn(&StoredEvent) -> Event,
        body: impl Fn(&[u8]) -> Option<String>,
    ) -> Self {
        let (event, raw) = match &letter.letter {
            Letter::Event(stored) => (Some(event(stored)), None),
            Letter::Raw(push) => {
                let raw = Raw {
                    hook: push.hook.to_string(),
                    media_type: push.media_type.clone(),
                    length: push.body.len(),
                    body: body(&push.body),
                };
                (None, Some(raw))
            }
        };
        Self {
            id: letter.id.to_string(),
            buried: letter.buried,
            attempts: letter.attempts,
            reason: letter.failure.reason.clone(),
            last_answer: letter.failure.answer.clone(),
            event,
            raw,
        }
    }
}
