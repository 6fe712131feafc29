//! `kind = "http"`: one POST per event (CloudEvents HTTP binding, section 3).
//!
//! Owns how an event becomes a request and an answer an outcome. 2xx is delivered, anything else
//! is tried again: only an operator can tell a refusal that stays from one that passes.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{Client, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{Attempt, Handler, Outcome, context::Context};
use crate::{
    clock::{Clock, Timestamp},
    config::{self, ContentMode, HttpTarget},
    error_chain::causes,
    event::Event,
    http_client::{self, ClientError},
    queue::Failure,
};

/// What is kept of an answer that is not 2xx.
const ANSWER: usize = 1024;
/// How long that may take to come; the status says enough.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The dispatcher's time-out is to come first, so that a time-out is always counted as one.
const SLACK: Duration = Duration::from_secs(1);
/// What the binding percent-encodes in header values (section 3.1.3.2): all but printable ASCII,
/// and of that the space, the quotation mark and the percent sign.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Posts events to one URL.
#[derive(Debug)]
pub struct HttpHandler {
    client: Client,
    url: Url,
    mode: ContentMode,
    clock: Clock,
}

/// Why there can be no such handler.
#[derive(Debug, thiserror::Error)]
pub enum HttpHandlerError {
    /// The client cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What stands after `unix:SOCKET:` is no path.
    #[error("not a path and query of a URL: {0}")]
    Path(#[from] url::ParseError),
}

impl HttpHandler {
    /// A handler whose attempts end by themselves soon after `timeout`; `clock` is for
    /// `Retry-After` dates.
    pub fn new(
        config: &config::HttpHandler,
        timeout: Duration,
        clock: Clock,
    ) -> Result<Self, HttpHandlerError> {
        // Handlers are this organisation's own: a proxy for the net outside is not asked.
        let builder = http_client::builder(timeout.saturating_add(SLACK)).no_proxy();
        let (builder, url) = match &config.target {
            HttpTarget::Url(url) => (builder, url.clone()),
            HttpTarget::Unix { socket, path } => {
                let url = Url::parse("http://localhost")?.join(path)?;
                (builder.unix_socket(socket.as_path()), url)
            }
        };
        // Without TLS no certificates are needed, and a machine that has none is good enough.
        let builder = if url.scheme() == "https" { builder } else { builder.tls_certs_only([]) };
        let client = builder.build().map_err(ClientError::Build)?;
        Ok(Self { client, url, mode: config.content_mode, clock })
    }

    fn request(&self, event: &Event) -> Result<(HeaderMap, Vec<u8>), Failure> {
        match self.mode {
            ContentMode::Structured => Ok(structured(event)),
            ContentMode::Binary => binary(event),
        }
    }
}

#[async_trait]
impl Handler for HttpHandler {
    async fn deliver(&self, attempt: Attempt<'_>) -> Outcome {
        let event = &attempt.stored.event;
        let (headers, body) = match self.request(event) {
            Ok(request) => request,
            Err(failure) => return Outcome::Rejected { failure },
        };
        let request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            // hyper leaves it out where there is no body, and some servers then answer 411.
            .header(header::CONTENT_LENGTH, body.len())
            .header("idempotency-key", attempt.idempotency_key)
            .header("brevdue-attempt", attempt.number)
            .header("traceparent", traceparent(event.attributes().traceparent.as_deref()))
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Outcome::Delivered,
            Ok(answer) => refused(answer, self.clock.now()).await,
            Err(error) => Outcome::retry(reason(&error)),
        }
    }
}

fn structured(event: &Event) -> (HeaderMap, Vec<u8>) {
    let media_type = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
    (HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]), event.json().to_vec())
}

/// Binary mode. An event that has no such form never will, so it is a dead letter at once.
fn binary(event: &Event) -> Result<(HeaderMap, Vec<u8>), Failure> {
    let failure = |fault: &str| Failure {
        reason: format!("the event cannot be sent in binary mode: {fault}"),
        answer: None,
    };
    let context = Context::read(event).map_err(|error| failure(&error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &context.attributes {
        // A name that is none of CloudEvents', and cannot be a header's: that one is left out.
        let Ok(name) = HeaderName::try_from(format!("ce-{name}")) else { continue };
        if name == "ce-datacontenttype" {
            continue;
        }
        let value = utf8_percent_encode(value, ENCODED).to_string();
        let value = HeaderValue::try_from(value)
            .map_err(|_| failure("an attribute's value is no header value"))?;
        headers.insert(name, value);
    }
    let declared = context.attributes.get("datacontenttype");
    let (body, media_type) = match context.data {
        Some((data, media_type)) => (data, Some(media_type)),
        None => (Vec::new(), declared.cloned()),
    };
    if let Some(media_type) = media_type {
        let value = HeaderValue::try_from(utf8_percent_encode(&media_type, CONTROLS).to_string())
            .map_err(|_| failure("datacontenttype is no media type"))?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    Ok((headers, body))
}

/// What an answer other than 2xx means.
async fn refused(answer: Response, now: Timestamp) -> Outcome {
    let after = answer.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()).and_then(|text| retry_after(text, now));
    let reason = answered(answer.status());
    let answer = beginning(answer).await;
    Outcome::Retry { failure: Failure { reason, answer }, after }
}

/// The status only: its usual reason phrase is known, and the peer's own is not asked.
fn answered(status: StatusCode) -> String {
    format!("answered {}", status.as_u16())
}

/// The beginning of an answer's body, if it has one. The rest is not read.
async fn beginning(mut answer: Response) -> Option<String> {
    let mut kept = Vec::new();
    let read = async {
        while kept.len() < ANSWER {
            let Ok(Some(chunk)) = answer.chunk().await else { break };
            kept.extend_from_slice(&chunk);
        }
    };
    // Late or broken off, what came is kept.
    drop(timeout(ANSWER_WAIT, read).await);
    kept.truncate(ANSWER);
    (!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).into_owned())
}

/// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3). Unreadable is as if not sent.
#[doc(hidden)]
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::default().after(date).since(now))
}

/// The event's own trace context, if it has a good one; else a new one.
fn traceparent(sent: Option<&str>) -> String {
    match sent {
        Some(text) if is_traceparent(text) => text.to_owned(),
        _ => {
            let (trace, parent) = (fastrand::u128(1..), fastrand::u64(1..));
            format!("00-{trace:032x}-{parent:016x}-01")
        }
    }
}

/// W3C Trace Context level 1, section 3.2.2; later versions may have more at the end.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |part: &str| part.bytes().any(|c| c != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let rest = parts.next();
    let known = hex(version, 2) && version != "ff" && (version != "00" || rest.is_none());
    let ids = hex(trace, 32) && set(trace) && hex(parent, 16) && set(parent);
    known && ids && hex(flags, 2) && text.bytes().all(|c| c.is_ascii_graphic())
}

/// Why there was no answer. Never the error's own text, which has the URL with its query.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let deepest = causes(error).into_iter().skip(1).last();
    let deepest = deepest.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    if error.is_connect() { format!("cannot connect: {deepest}") } else { deepest }
}

#[cfg(test)]
mod tests;
