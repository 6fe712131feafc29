//! The hook endpoint: from a request to an answer.
//!
//! Owns the order of the checks (path, method, allow list, secret, media type, size, content), the
//! statuses, and the promise that 200 is said only after the queue has it. What a request means is
//! its source's; connections are the server's; it knows neither Altinn nor sled.
//! Under `/hooks/.well-known/`, which no hook's name can be, it passes on questions to the daemon
//! itself; one that is not open is as unknown as any other path.

pub mod allow;
pub mod peer;
mod receive;
pub mod refusals;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Version,
    header::{ALLOW, CONNECTION, RETRY_AFTER},
    request::Parts,
};
use hyper::body::Body as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    allow::AllowList,
    refusals::{Refusals, because},
};
use crate::{
    clock::Clock,
    event::Arrival,
    metrics::{AnswerLabels, HookLabels, Metrics},
    name::HookName,
    network::Network,
    queue::{Appended, Queue},
    server::{
        Answer, Peer, Proof, RequestBody, Service, answer,
        bodies::{Bodies, Room, Sender},
        body,
    },
    source::{Handshake, Refusal, Source},
};

/// Seconds until a sender should come again when there is no room. Altinn has its own schedule.
const RETRY: HeaderValue = HeaderValue::from_static("30");

/// Called with each event that was stored, after it was.
pub type OnStored = Arc<dyn Fn(&Arrival) + Send + Sync>;

/// The answer to GET `/hooks/.well-known/{path}`; `None` is 404.
pub type WellKnown = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// What became of an event that was pushed.
#[derive(Debug, Clone, Copy)]
pub enum Push<'a> {
    /// It is in the log, now or before.
    Kept(&'a Arrival, Appended),
    /// There was no room for it, or the store did not work.
    Refused,
}

/// Called with what became of each push to a hook.
pub type OnPush = Arc<dyn Fn(&HookName, Push<'_>) + Send + Sync>;

/// All hooks.
pub struct Hooks<Q> {
    /// The path of the public URL; hooks are under it. With or without a slash at its end.
    pub prefix: String,
    /// Who sends to which.
    pub sources: BTreeMap<HookName, Arc<dyn Source>>,
    /// Where events go.
    pub queue: Q,
    /// Bytes of a body.
    pub max_body: usize,
    /// Room for all bodies.
    pub bodies: Arc<Bodies>,
    /// For a body to come.
    pub body_timeout: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Who may call; `None` for everyone.
    pub allow_from: Option<AllowList>,
    /// What is told of refusals.
    pub refusals: Arc<Refusals>,
    /// Cancelled when new requests are to go elsewhere.
    pub stopping: CancellationToken,
    /// Told of what was stored.
    pub on_stored: OnStored,
    /// What the daemon asks itself.
    pub well_known: WellKnown,
    /// Told of what was pushed.
    pub on_push: OnPush,
    /// Counted in.
    pub metrics: Metrics,
    /// For the time of the last push.
    pub clock: Clock,
}

impl<Q> fmt::Debug for Hooks<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<Q: Queue> Service for Hooks<Q> {
    async fn answer(&self, request: Request<RequestBody>, peer: Peer) -> Answer {
        let (head, body) = request.into_parts();
        let Some((name, source)) = self.find(head.uri.path()) else {
            let answer = self.of_no_hook(&head);
            let address = peer.address.map(|address| address.ip());
            let answer = self.refusals.told(None, address, answer);
            return self.counted(None, &head, answer);
        };
        let peer = peer::address(peer, &head.headers, &self.trusted_proxies);
        let answer = match not_for(source.as_ref(), &head) {
            Some(answer) => answer,
            None if !self.lets_in(name, peer) => {
                because("the sender is not in allow_from", answer::empty(StatusCode::FORBIDDEN))
            }
            None => self.of_hook((name, source.as_ref()), &head, body, peer).await,
        };
        let answer = self.refusals.told(Some(name), peer, answer);
        self.counted(Some(name), &head, answer)
    }
}

impl<Q: Queue> Hooks<Q> {
    fn find(&self, path: &str) -> Option<(&HookName, &Arc<dyn Source>)> {
        let name: HookName = self.under_hooks(path)?.parse().ok()?;
        self.sources.get_key_value(&name)
    }

    fn under_hooks<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.prefix.trim_end_matches('/'))?.strip_prefix("/hooks/")
    }

    fn of_no_hook(&self, head: &Parts) -> Answer {
        let path = self.under_hooks(head.uri.path());
        let path = path.and_then(|path| path.strip_prefix(".well-known/"));
        match path.and_then(|path| (self.well_known)(path)) {
            Some(text) if head.method == Method::GET => {
                answer::text(StatusCode::OK, "text/plain; charset=utf-8", text)
            }
            Some(_) => {
                let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                answer
            }
            None => because("no such hook", answer::empty(StatusCode::NOT_FOUND)),
        }
    }

    /// Whether the allow list lets this peer in, or only reports it.
    fn lets_in(&self, name: &HookName, peer: Option<IpAddr>) -> bool {
        let Some(list) = self.allow_from.as_ref().filter(|list| !list.contains(peer)) else {
            return true;
        };
        self.metrics.not_allowed.get_or_create(&HookLabels::new(name)).inc();
        if !list.enforce {
            self.refusals.let_in(name, peer);
        }
        !list.enforce
    }

    async fn of_hook(
        &self,
        (name, source): (&HookName, &dyn Source),
        head: &Parts,
        body: RequestBody,
        peer: Option<IpAddr>,
    ) -> Answer {
        if head.method == Method::OPTIONS {
            return shaken(source, head);
        }
        if self.stopping.is_cancelled() {
            return because("brevdue is stopping", try_later());
        }
        if let Err(refusal) = source.check(head) {
            return refused(&refusal);
        }
        let proof = head.extensions.get::<Proof>();
        if let Some(proof) = proof.filter(|_| source.proves_by_head()) {
            proof.give();
        }
        let known = source.proves_by_head() || proof.is_some_and(Proof::is_given);
        let sender = if known { Sender::Known(peer) } else { Sender::Stranger(peer) };
        match self.read(body, sender).await {
            Ok((body, _room)) => self.receive(name, source, head, body).await,
            Err(answer) => answer,
        }
    }

    /// The body, and the room that it takes until the request is answered.
    async fn read(&self, body: RequestBody, sender: Sender) -> Result<(Bytes, Room), Answer> {
        let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let most = announced.unwrap_or(self.max_body).min(self.max_body);
        let began = Instant::now();
        let room = timeout(self.body_timeout, self.bodies.take(most, sender)).await;
        let Ok(mut room) = room else {
            return Err(because("there is no room for its body", try_later()));
        };
        let left = self.body_timeout.saturating_sub(began.elapsed());
        let read = tokio::select! {
            read = body::read_noting(body, self.max_body, left, || room.moved()) => read,
            () = room.taken_back() => {
                return Err(because("its body was too slow while others waited", try_later()));
            }
        };
        room.settle();
        read.map(|body| (body, room)).map_err(without_body)
    }

    fn counted(&self, hook: Option<&HookName>, head: &Parts, answer: Answer) -> Answer {
        let status = answer.status().as_u16();
        let hook = hook.map(ToString::to_string).unwrap_or_default();
        self.metrics.answers.get_or_create(&AnswerLabels { hook, status }).inc();
        if self.stopping.is_cancelled() { closing(head, answer) } else { answer }
    }
}

/// 405 for what is neither a POST nor a handshake with a source that has one.
fn not_for(source: &dyn Source, head: &Parts) -> Option<Answer> {
    if head.method == Method::POST {
        return None;
    }
    let shakes = source.handshake(head).is_some();
    if shakes && head.method == Method::OPTIONS {
        return None;
    }
    let allow = if shakes { "POST, OPTIONS" } else { "POST" };
    let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    Some(because("the hook does not take this method", answer))
}

/// The answer to a handshake.
fn shaken(source: &dyn Source, head: &Parts) -> Answer {
    match source.handshake(head) {
        Some(Handshake::Allowed(headers)) => {
            let mut answer = answer::empty(StatusCode::OK);
            answer.headers_mut().extend(headers);
            answer
        }
        Some(Handshake::Denied) | None => {
            because("the origin is not in allowed_origins", answer::empty(StatusCode::FORBIDDEN))
        }
    }
}

/// A refusal's status; only what is wrong with an event is said, to a sender that proved itself.
fn refused(refusal: &Refusal) -> Answer {
    let answer = match refusal {
        Refusal::Unauthenticated => answer::empty(StatusCode::UNAUTHORIZED),
        Refusal::UnsupportedMediaType | Refusal::UnsignedAttributes => {
            answer::empty(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        }
        Refusal::Malformed(rule) => {
            answer::text(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", rule.clone())
        }
    };
    because(refusal.to_string(), answer)
}

fn without_body(error: body::BodyError) -> Answer {
    let status = match error {
        body::BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        body::BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        body::BodyError::Broken => StatusCode::BAD_REQUEST,
    };
    because(error.to_string(), answer::empty(status))
}

fn try_later() -> Answer {
    let mut answer = answer::empty(StatusCode::SERVICE_UNAVAILABLE);
    answer.headers_mut().insert(RETRY_AFTER, RETRY);
    answer
}

/// Ends the connection after this answer, because we are stopping. HTTP/2 has no such header; there
/// the server's drain does it. Refusals leave the connection open: behind a proxy it is shared with
/// senders who did nothing wrong.
fn closing(head: &Parts, mut answer: Answer) -> Answer {
    if head.version <= Version::HTTP_11 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
