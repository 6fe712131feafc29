//! One call over HTTP: sent, its answer read within bounds, and counted.
//!
//! Owns what every request to the platform carries (the subscription key of Altinn's gateway, if
//! there is one). What an answer means is for who asked.

use std::{
    error::Error,
    fmt,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{clock_skew::Skew, error_text::ErrorText};
use crate::{
    clock::{Clock, Timestamp},
    error_chain::in_one_line,
    http_client::{self, BodyError},
    metrics::{CallLabels, Metrics},
    secret::{SecretError, SecretFile},
};

/// For tokens and error bodies.
pub(crate) const SMALL: usize = 64 * 1024;
/// For lists.
pub(crate) const LARGE: usize = 4 * 1024 * 1024;
/// Longer waits than this are not taken from the other side.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The header of Altinn's gateway.
const API_KEY: &str = "ocp-apim-subscription-key";

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    /// The other side's clock, from `Date`.
    pub(crate) date: Option<Timestamp>,
    /// How far our clock is from theirs.
    pub(crate) skew: Option<Skew>,
    /// Empty if it was `too_long`.
    pub(crate) body: Vec<u8>,
    pub(crate) too_long: bool,
}

/// The two things that every call needs and that have nothing to do with it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

impl Caller {
    /// Sends a request; `Err` says why there is no answer. A success is at most `limit` bytes.
    pub(crate) async fn send(
        &self,
        call: &'static str,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Answer, String> {
        let answer = self.send_for_part(call, request, limit).await?;
        if answer.too_long {
            return Err(BodyError::TooLong(limit).to_string());
        }
        Ok(answer)
    }

    /// The same for someone who can ask for less.
    pub(crate) async fn send_for_part(
        &self,
        call: &'static str,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Answer, String> {
        let answer = answer(request, limit, &self.clock).await;
        let good = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        let result = if good { "ok" } else { "failed" };
        self.metrics.calls.get_or_create(&CallLabels { call, result }).inc();
        answer
    }
}

async fn answer(request: RequestBuilder, limit: usize, clock: &Clock) -> Result<Answer, String> {
    let before = clock.now();
    let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
    let after = clock.now();
    let status = response.status();
    let retry_after = retry_after(response.headers(), clock.now());
    let date = http_date(response.headers().get(header::DATE));
    let skew = date.map(|date| Skew::measured(before, after, date));
    if !status.is_success() {
        // A refusal is a refusal, even when its reason cannot be read.
        let body = http_client::body(response, SMALL).await.unwrap_or_default();
        return Ok(Answer { status, retry_after, date, skew, body, too_long: false });
    }
    let (body, too_long) = match http_client::body(response, limit).await {
        Ok(body) => (body, false),
        Err(BodyError::TooLong(_)) => (Vec::new(), true),
        Err(error @ BodyError::Broken(_)) => return Err(chain(&error)),
    };
    Ok(Answer { status, retry_after, date, skew, body, too_long })
}

/// An error with what caused it; reqwest's own text leaves that out.
fn chain(error: &(dyn Error + 'static)) -> String {
    ErrorText::new(&in_one_line(error)).text
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3).
pub(in crate::altinn) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wait = match seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => http_date(Some(value))?.since(now),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn http_date(value: Option<&HeaderValue>) -> Option<Timestamp> {
    let text = value?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Timestamp::try_from(date.timestamp()).ok()
}

/// Altinn's platform: where it is, and what its gateway wants to see.
pub(crate) struct Platform {
    client: Client,
    base: String,
    key_file: Option<SecretFile>,
    key: RwLock<Option<SecretString>>,
    pub(crate) caller: Caller,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Platform {
    /// Reads the gateway's key, if one is configured.
    pub(crate) fn new(
        client: Client,
        base: &Url,
        key_file: Option<SecretFile>,
        caller: Caller,
    ) -> Result<Self, SecretError> {
        let base = base.as_str().trim_end_matches('/').to_owned();
        let key = RwLock::new(key_file.as_ref().map(read_key).transpose()?);
        Ok(Self { client, base, key_file, key, caller })
    }

    /// Reads the gateway's key again; the old one stays in use until what is returned is called.
    pub(crate) fn read_anew(&self) -> Result<impl FnOnce() + '_, SecretError> {
        let key = self.key_file.as_ref().map(read_key).transpose()?;
        Ok(move || *self.key.write().unwrap_or_else(PoisonError::into_inner) = key)
    }

    /// Where it is, without a slash at the end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A request that carries a bearer token, and the gateway's key.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        token: &SecretString,
    ) -> RequestBuilder {
        self.open(method, path).bearer_auth(token.expose_secret())
    }

    /// A request that anyone may make.
    pub(crate) fn open(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        match key.as_ref().and_then(header_value) {
            None => request,
            Some(value) => request.header(API_KEY, value),
        }
    }
}

/// The gateway's key, which must be fit for a header.
pub(crate) fn read_key(file: &SecretFile) -> Result<SecretString, SecretError> {
    let key = file.read()?;
    let fault = "has characters that no HTTP header can have: put the key alone on its first line";
    match header_value(&key) {
        Some(_) => Ok(key),
        None => Err(SecretError::Content { path: file.path().to_owned(), fault }),
    }
}

fn header_value(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(key.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp::from_millis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
        for (value, wait) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("999999999", Some(3600)),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
