//! The admin API: health, metrics, status, events, dead letters and handlers, over a Unix socket and, if
//! configured, TCP.
//!
//! Owns the paths and who may use them. What is answered is in `schema`; it reads the queue, and
//! what only the composition root knows comes through [`Outside`].

pub mod bulk;
mod retry;
pub mod schema;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderMap, Method, Request, StatusCode, header};

use self::bulk::{Action, Bulk, StepError};
use crate::{
    clock::Clock,
    event::Arrival,
    metrics::{HandlerLabels, Metrics},
    name::{HandlerName, HookName},
    queue::{
        Census, DeadLetterId, Health, InvalidReplayFrom, Page, Queue, QueueError, RawPush, Seq,
    },
    server::{Answer, Peer, Proof, RequestBody, Service, answer, headers::bearer, host},
    source::secrets::HookSecrets,
    telemetry,
};

/// A listing without `limit` has so many rows.
const DEFAULT_LIMIT: usize = 100;
/// And never more than these.
const MAX_LIMIT: usize = 1000;

/// Makes a new secret for a subscription's hook. It reads and writes files.
pub type RotateFn = Arc<dyn Fn(&HookName) -> Result<(), RotateError> + Send + Sync>;

/// Decodes an undecodable push anew; an error says what is wrong with it.
pub type RedecodeFn = Box<dyn Fn(&RawPush) -> Result<Vec<Arrival>, String> + Send + Sync>;

/// Why there is no new secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// No subscription has this name.
    #[error("no subscription has this name")]
    Unknown,
    /// The secret is the operator's; with what to do.
    #[error("{0}")]
    Operator(String),
    /// It cannot be read or written.
    #[error("{0}")]
    Failed(String),
}

/// What the admin API cannot see by itself.
pub struct Outside {
    /// The subscriptions as Altinn has them.
    pub subscriptions: Box<dyn Fn() -> Vec<schema::Subscription> + Send + Sync>,
    /// Events that no handler matched.
    pub unmatched: Box<dyn Fn() -> schema::Unmatched + Send + Sync>,
    /// False from the moment that stopping begins.
    pub accepting: Box<dyn Fn() -> bool + Send + Sync>,
    /// Makes a new secret.
    pub rotate: RotateFn,
    /// Decodes an undecodable push anew.
    pub redecode: RedecodeFn,
    /// Told of what was stored.
    pub on_stored: Box<dyn Fn(&Arrival) + Send + Sync>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// Who may use which paths.
#[derive(Debug)]
pub enum Access {
    /// A Unix socket: its mode decides who gets here.
    Socket,
    /// TCP: health and metrics for everyone, the rest with a token.
    Tcp {
        /// One of these, if there are any.
        tokens: Option<Arc<HookSecrets>>,
        /// Only this machine can connect: then a request for another's name is a browser's that was deceived.
        only_local: bool,
    },
}

/// The admin API on one kind of socket.
#[derive(Debug)]
pub struct Admin<Q> {
    /// What it is about.
    pub queue: Q,
    /// Counted things.
    pub metrics: Metrics,
    /// Now.
    pub clock: Clock,
    /// What it cannot see by itself.
    pub outside: Arc<Outside>,
    /// Who may use it.
    pub access: Access,
    /// What is done to many dead letters at once.
    pub bulk: Bulk,
}

impl<Q: Queue> Service for Admin<Q> {
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
        if matches!(self.access, Access::Tcp { only_local: true, .. }) && !host::is_local(&request)
        {
            let told = "ask for localhost, or for an address\n";
            return answer::text(StatusCode::MISDIRECTED_REQUEST, TEXT, told);
        }
        let path = request.uri().path().to_owned();
        // Taken apart first: an encoded slash is a part of its segment.
        let decoded = path.trim_start_matches('/').split('/').map(decoded).collect();
        let Some(decoded): Option<Vec<_>> = decoded else { return failed(Fault::NotFound) };
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        match segments.as_slice() {
            ["livez" | "readyz" | "metrics"] => match *request.method() {
                Method::GET | Method::HEAD => self.page(&segments).await,
                Method::OPTIONS => readable(StatusCode::NO_CONTENT),
                _ => readable(StatusCode::METHOD_NOT_ALLOWED),
            },
            ["v1", ..] if !self.allowed(request.headers()) => {
                let mut refusal = answer::empty(StatusCode::UNAUTHORIZED);
                let challenge = http::HeaderValue::from_static("Bearer");
                refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                refusal
            }
            ["v1", rest @ ..] => {
                if let Some(proof) = request.extensions().get::<Proof>() {
                    proof.give();
                }
                let asked = Asked::new(request.method(), request.uri().query());
                self.v1(rest, &asked).await.unwrap_or_else(failed)
            }
            _ => failed(Fault::NotFound),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a request to the API gets no answer of its own.
enum Fault {
    NotFound,
    /// What is missing, in words.
    Missing(String),
    Method,
    Bad(String),
    Queue(QueueError),
    /// An undecodable push that still is.
    Undecodable(String),
    Rotate(RotateError),
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NotFound => Self::NotFound,
            QueueError::Full(_)
            | QueueError::Unavailable(_)
            | QueueError::Closed
            | QueueError::Undeliverable
            | QueueError::NotSoFar(_)
            | QueueError::Configured => Self::Queue(error),
        }
    }
}

/// A request without its body, which no path here has.
struct Asked<'a> {
    method: &'a Method,
    query: Vec<(String, String)>,
}

impl<'a> Asked<'a> {
    fn new(method: &'a Method, query: Option<&str>) -> Self {
        let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self { method, query: query.into_owned().collect() }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn page(&self) -> Result<Page, Fault> {
        let limit = match self.get("limit") {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| Fault::Bad(format!("limit is a number from 1 to {MAX_LIMIT}")))?,
        };
        Ok(Page { limit, newest: self.get("newest").is_some() })
    }

    fn handler(&self) -> Result<Option<HandlerName>, Fault> {
        let name = self.get("handler").map(str::parse).transpose();
        name.map_err(|error: crate::name::InvalidName| Fault::Bad(error.to_string()))
    }
}

impl<Q: Queue> Admin<Q> {
    fn allowed(&self, headers: &HeaderMap) -> bool {
        let Access::Tcp { tokens, .. } = &self.access else { return true };
        let Some(tokens) = tokens else { return false };
        bearer(headers).is_some_and(|offered| tokens.accepts(offered))
    }

    /// What needs no token.
    async fn page(&self, path: &[&str]) -> Answer {
        match path {
            ["livez"] => answer::text(StatusCode::OK, TEXT, "ok\n"),
            ["readyz"] => self.ready(),
            _ => self.metrics().await,
        }
    }

    /// Why it is not ready. Ready is: listening, and the store takes events and is whole.
    fn unready(&self) -> Option<String> {
        if !(self.outside.accepting)() {
            return Some("stopping".to_owned());
        }
        self.queue.health().trouble()
    }

    fn ready(&self) -> Answer {
        match self.unready() {
            None => answer::text(StatusCode::OK, TEXT, "ready\n"),
            Some(why) => {
                answer::text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n"))
            }
        }
    }

    async fn metrics(&self) -> Answer {
        if let Ok(census) = self.queue.census().await {
            self.measure(&census);
        }
        self.metrics.log_dropped.inner().store(telemetry::dropped(), Ordering::Relaxed);
        self.metrics.clock_jumps.inner().store(self.clock.jumps(), Ordering::Relaxed);
        self.measure_health(&self.queue.health());
        match self.metrics.page() {
            Ok(page) => answer::text(StatusCode::OK, OPEN_METRICS, page),
            Err(_) => answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn measure_health(&self, health: &Health) {
        let writable = matches!(health, Health::Writable | Health::Damaged(_));
        self.metrics.store_writable.set(i64::from(writable));
        // Damage stays, also while the store fails: only a repair and the next start end it.
        if matches!(health, Health::Damaged(_)) {
            self.metrics.store_damaged.set(1);
        }
    }

    /// Gauges that are only worth computing when someone looks.
    fn measure(&self, census: &Census) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.queue_events.set(gauge(census.events));
        metrics.queue_bytes.set(gauge(census.live_bytes));
        metrics.dedup_ids.set(gauge(census.dedup_ids));
        let now = self.clock.now();
        for handler in &census.handlers {
            let labels = HandlerLabels::new(&handler.name);
            let age = handler.oldest.map_or(0, |oldest| now.since(oldest).as_secs());
            metrics.pending.get_or_create(&labels).set(gauge(handler.pending));
            metrics.retrying.get_or_create(&labels).set(gauge(handler.retrying));
            metrics.dead_letters.get_or_create(&labels).set(gauge(handler.dead_letters));
            metrics.paused.get_or_create(&labels).set(i64::from(handler.paused));
            metrics.oldest_seconds.get_or_create(&labels).set(gauge(age));
        }
    }

    async fn v1(&self, path: &[&str], asked: &Asked<'_>) -> Result<Answer, Fault> {
        match (asked.method.as_str(), path) {
            ("GET", ["status"]) => self.status().await,
            ("GET", ["subscriptions"]) => Ok(ok(&(self.outside.subscriptions)())),
            ("POST", ["subscriptions", name, "rotate"]) => self.rotate(name).await,
            ("GET", ["events"]) => {
                let events = self.queue.events(asked.page()?).await?;
                Ok(ok(&events.iter().map(schema::Event::summary).collect::<Vec<_>>()))
            }
            ("GET", ["events", seq]) => {
                let seq: Seq = seq.parse().map_err(|_| Fault::NotFound)?;
                Ok(ok(&schema::Event::whole(&self.queue.event(seq).await?)))
            }
            ("GET", ["dead-letters"]) => {
                let handler = asked.handler()?;
                let letters = self.queue.dead_letters(handler.as_ref(), asked.page()?).await?;
                Ok(ok(&letters.iter().map(schema::DeadLetter::summary).collect::<Vec<_>>()))
            }
            ("GET", ["dead-letters", id]) => {
                Ok(ok(&schema::DeadLetter::whole(&self.queue.dead_letter(&letter(id)?).await?)))
            }
            ("DELETE", ["dead-letters", id]) => {
                self.queue.discard(&letter(id)?).await?;
                Ok(answer::empty(StatusCode::NO_CONTENT))
            }
            ("POST", ["dead-letters", id, "retry"]) => {
                self.retry(&letter(id)?).await?;
                Ok(answer::empty(StatusCode::NO_CONTENT))
            }
            ("GET", ["handlers"]) => {
                let census = self.queue.census().await?;
                Ok(ok(&census.handlers.iter().map(schema::Handler::from).collect::<Vec<_>>()))
            }
            (_, ["handlers", name, rest @ ..]) => {
                let name = name.parse().map_err(|_| Fault::NotFound)?;
                let done = self.handler(&name, rest, asked).await;
                if matches!(done, Err(Fault::NotFound)) && is_action(rest) {
                    let what = "is not configured, and has no place in the log";
                    return Err(Fault::Missing(format!("handlers.{name} {what}")));
                }
                done
            }
            (_, ["status" | "subscriptions" | "events" | "dead-letters" | "handlers", ..]) => {
                Err(Fault::Method)
            }
            _ => Err(Fault::NotFound),
        }
    }

    async fn handler(
        &self,
        name: &HandlerName,
        action: &[&str],
        asked: &Asked<'_>,
    ) -> Result<Answer, Fault> {
        match (asked.method.as_str(), action) {
            ("POST", [action @ ("pause" | "resume")]) => {
                self.queue.pause(name, *action == "pause").await?;
            }
            ("POST", ["replay"]) => {
                let from = asked.get("from").ok_or_else(|| Fault::Bad("from is missing".into()))?;
                let from = from
                    .parse()
                    .map_err(|error: InvalidReplayFrom| Fault::Bad(format!("from is {error}")))?;
                let events = self.queue.replay(name, from).await?;
                return Ok(ok(&schema::Replay { handler: name.to_string(), events }));
            }
            ("DELETE", []) => {
                self.queue.forget(name).await?;
                self.metrics.forget(&HandlerLabels::new(name));
            }
            ("POST", ["dead-letters", action @ ("retry" | "discard")]) => {
                let action = if *action == "retry" { Action::Retry } else { Action::Discard };
                let number = asked.get("snapshot").map(str::parse).transpose();
                let number = number.map_err(|_| Fault::Bad("snapshot is a number".into()))?;
                let step = self.bulk.step(&self.queue, (name, action), number).await;
                return step.map(|step| ok(&step)).map_err(|error| match error {
                    StepError::Unknown => Fault::Missing(error.to_string()),
                    StepError::Queue(error) => error.into(),
                });
            }
            (_, path) if is_action(path) => return Err(Fault::Method),
            _ => return Err(Fault::NotFound),
        }
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }

    async fn rotate(&self, name: &str) -> Result<Answer, Fault> {
        let missing = || Fault::Missing(format!("subscriptions.{name} is not configured"));
        let name: HookName = name.parse().map_err(|_| missing())?;
        let rotate = Arc::clone(&self.outside.rotate);
        let rotated = tokio::task::spawn_blocking(move || rotate(&name)).await;
        match rotated {
            Ok(Ok(())) => Ok(answer::empty(StatusCode::NO_CONTENT)),
            Ok(Err(RotateError::Unknown)) => Err(missing()),
            Ok(Err(error)) => Err(Fault::Rotate(error)),
            Err(error) => Err(Fault::Rotate(RotateError::Failed(error.to_string()))),
        }
    }

    async fn status(&self) -> Result<Answer, Fault> {
        let status = schema::Status::new(
            &self.queue.census().await?,
            (self.outside.subscriptions)(),
            (self.outside.unmatched)(),
            self.unready(),
            !self.clock.is_vouched(),
        );
        Ok(ok(&status))
    }
}

/// Whether something can be done to a handler under this path.
fn is_action(path: &[&str]) -> bool {
    matches!(path, [] | ["pause" | "resume" | "replay"] | ["dead-letters", "retry" | "discard"])
}

fn ok(value: &impl serde::Serialize) -> Answer {
    answer::json(StatusCode::OK, value)
}

/// A segment of a path, as who asked wrote it before encoding.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(segment).decode_utf8().ok()
}

fn letter(id: &str) -> Result<DeadLetterId, Fault> {
    id.parse().map_err(|error: crate::queue::InvalidDeadLetterId| Fault::Bad(error.to_string()))
}

/// Tells how a page that is only read may be asked for.
fn readable(status: StatusCode) -> Answer {
    let mut answer = answer::empty(status);
    let allow = http::HeaderValue::from_static("GET, HEAD, OPTIONS");
    answer.headers_mut().insert(header::ALLOW, allow);
    answer
}

fn failed(fault: Fault) -> Answer {
    let (status, message) = match fault {
        Fault::NotFound => (StatusCode::NOT_FOUND, "there is no such thing".to_owned()),
        Fault::Missing(what) => (StatusCode::NOT_FOUND, what),
        Fault::Method => (StatusCode::METHOD_NOT_ALLOWED, "not with this method".to_owned()),
        Fault::Bad(message) => (StatusCode::BAD_REQUEST, message),
        Fault::Queue(
            error @ (QueueError::Undeliverable | QueueError::NotSoFar(_) | QueueError::Configured),
        ) => (StatusCode::CONFLICT, error.to_string()),
        Fault::Undecodable(why) => {
            (StatusCode::CONFLICT, format!("it still cannot be read: {why}"))
        }
        Fault::Queue(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Fault::Rotate(error @ RotateError::Unknown) => (StatusCode::NOT_FOUND, error.to_string()),
        Fault::Rotate(error @ RotateError::Operator(_)) => {
            (StatusCode::CONFLICT, error.to_string())
        }
        Fault::Rotate(error @ RotateError::Failed(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    };
    answer::json(status, &schema::Error { error: message })
}

#[cfg(test)]
mod tests;
