//! Altinn Events behind its sign-in: a call with a token, and what its answer means.
//!
//! Owns the second try with a new token, the kinds of refusal, and that everyone stays away from a
//! call for as long as Altinn asked one caller to. What is asked is the
//! subscription API's and the feed's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use reqwest::RequestBuilder;
use secrecy::SecretString;
use tokio::time::Instant;

use super::{
    auth::{
        cache::TokenCache,
        token::{AccessToken, TokenError, TokenSource},
    },
    http::{
        client::{Answer, LARGE, Platform},
        error_text::ErrorText,
    },
};
use crate::{clock::Clock, http_client::BodyError, metrics::Metrics};

/// Why a call did not do what it should; a caller decides by the kind.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// 401, also with a new token.
    #[error("Altinn refuses the token (401): {0}")]
    Unauthorized(ErrorText),
    /// 403 without a word, where no subscription is named.
    #[error(
        "Altinn says 403 without a reason: the token lacks the scope altinn:events.subscribe; \
         have it granted to the organisation and the client"
    )]
    MissingScope,
    /// 403 about a subscription that is there.
    #[error(
        "the subscription was made by another identity (403): remove it with the client, system \
         user or scopes that it was made with"
    )]
    OtherOwner,
    /// 403 with a reason: the resource's policy does not permit it.
    #[error("not authorised by the resource's policy (403): {0}")]
    NotAuthorized(ErrorText),
    /// 404.
    #[error("Altinn has no such subscription (404)")]
    NotFound,
    /// Another 4xx: the request is at fault, and repeating it does not help.
    #[error("Altinn refuses the request ({status}): {words}")]
    Rejected {
        /// The status.
        status: StatusCode,
        /// Altinn's reason.
        words: ErrorText,
    },
    /// 429 or 5xx: later.
    #[error("Altinn cannot now ({status}): {words}")]
    Busy {
        /// The status.
        status: StatusCode,
        /// Altinn's reason.
        words: ErrorText,
        /// How long to stay away.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("Altinn cannot be reached: {0}")]
    Unreachable(String),
    /// A success that is not what it should be.
    #[error("Altinn's answer cannot be read: {0}")]
    Malformed(String),
}

impl ApiError {
    /// Whether it is about one subscription only, so that others may still succeed.
    pub fn concerns_one(&self) -> bool {
        match self {
            Self::MissingScope
            | Self::OtherOwner
            | Self::NotAuthorized(_)
            | Self::NotFound
            | Self::Rejected { .. }
            | Self::Malformed(_) => true,
            Self::Token(_) | Self::Unauthorized(_) | Self::Busy { .. } | Self::Unreachable(_) => {
                false
            }
        }
    }

    /// How long the other side asked us to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(error) => error.retry_after(),
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Unauthorized(_)
            | Self::MissingScope
            | Self::OtherOwner
            | Self::NotAuthorized(_)
            | Self::NotFound
            | Self::Rejected { .. }
            | Self::Unreachable(_)
            | Self::Malformed(_) => None,
        }
    }

    /// What to show: the text, and the trace id beside it.
    pub fn text(&self) -> ErrorText {
        let trace_id = match self {
            Self::Token(error) => error.trace_id().map(str::to_owned),
            Self::Unauthorized(words)
            | Self::NotAuthorized(words)
            | Self::Rejected { words, .. }
            | Self::Busy { words, .. } => words.trace_id.clone(),
            Self::MissingScope
            | Self::OtherOwner
            | Self::NotFound
            | Self::Unreachable(_)
            | Self::Malformed(_) => None,
        };
        ErrorText { text: self.to_string(), trace_id }
    }
}

/// The client. Clones share tokens and connections.
#[derive(Debug)]
pub struct EventsApi<T> {
    tokens: Arc<TokenCache<T>>,
    platform: Arc<Platform>,
    away: Arc<Mutex<BTreeMap<&'static str, Away>>>,
}

/// A call that Altinn does not want to see before `until`.
#[derive(Debug, Clone)]
struct Away {
    status: StatusCode,
    words: ErrorText,
    until: Instant,
}

impl<T> Clone for EventsApi<T> {
    fn clone(&self) -> Self {
        let (tokens, platform) = (Arc::clone(&self.tokens), Arc::clone(&self.platform));
        Self { tokens, platform, away: Arc::clone(&self.away) }
    }
}

impl<T: TokenSource> EventsApi<T> {
    pub(crate) fn new(tokens: Arc<TokenCache<T>>, platform: Arc<Platform>) -> Self {
        Self { tokens, platform, away: Arc::default() }
    }

    /// The tokens that calls carry.
    pub fn tokens(&self) -> &TokenCache<T> {
        &self.tokens
    }

    /// The clock that lifetimes are measured with.
    pub fn clock(&self) -> &Clock {
        &self.platform.caller.clock
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.platform.caller.metrics
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Sends with the token at hand; if that one is refused, once more with a new one.
    pub(crate) async fn call(
        &self,
        name: &'static str,
        request: impl Fn(&SecretString) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, ApiError> {
        let answer = self.ask(name, request).await?;
        if answer.too_long {
            return Err(ApiError::Unreachable(BodyError::TooLong(LARGE).to_string()));
        }
        Ok(answer)
    }

    /// The same, but a good answer that is too long is told as that.
    pub(crate) async fn ask(
        &self,
        name: &'static str,
        request: impl Fn(&SecretString) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, ApiError> {
        self.stay_away(name)?;
        let answer = self.signed_in(name, request).await?;
        let good = good(answer);
        if let Err(ApiError::Busy { status, words, retry_after: Some(wait) }) = &good {
            let away =
                Away { status: *status, words: words.clone(), until: Instant::now() + *wait };
            self.away().insert(name, away);
        }
        good
    }

    async fn signed_in(
        &self,
        name: &'static str,
        request: impl Fn(&SecretString) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, ApiError> {
        let token = self.tokens.token().await?;
        let answer = self.send(name, request(token.secret())).await?;
        if !self.is_refused(&answer, &token).await {
            return Ok(answer);
        }
        let token = self.tokens.token().await?;
        let answer = self.send(name, request(token.secret())).await?;
        self.is_refused(&answer, &token).await;
        Ok(answer)
    }

    /// Tells the cache what became of its token.
    async fn is_refused(&self, answer: &Answer, token: &AccessToken) -> bool {
        let refused = answer.status == StatusCode::UNAUTHORIZED;
        if refused {
            self.tokens.invalidate(token).await;
        } else if answer.status.is_success() {
            self.tokens.accepted();
        }
        refused
    }

    fn stay_away(&self, name: &'static str) -> Result<(), ApiError> {
        let asked = self.away().get(name).cloned();
        let Some(Away { status, words, until }) = asked else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        Err(ApiError::Busy { status, words, retry_after: Some(left) })
    }

    fn away(&self) -> MutexGuard<'_, BTreeMap<&'static str, Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, name: &'static str, request: RequestBuilder) -> Result<Answer, ApiError> {
        self.platform
            .caller
            .send_for_part(name, request, LARGE)
            .await
            .map_err(ApiError::Unreachable)
    }
}

fn good(answer: Answer) -> Result<Answer, ApiError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(answer);
    }
    let words = ErrorText::of_body(&answer.body);
    Err(match status {
        StatusCode::UNAUTHORIZED => ApiError::Unauthorized(words),
        StatusCode::FORBIDDEN if words.text.is_empty() => ApiError::MissingScope,
        StatusCode::FORBIDDEN => ApiError::NotAuthorized(words),
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            ApiError::Busy { status, words, retry_after: answer.retry_after }
        }
        _ if status.is_client_error() => ApiError::Rejected { status, words },
        _ => ApiError::Busy { status, words, retry_after: answer.retry_after },
    })
}
