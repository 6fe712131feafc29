//! Altinn Events' subscription API: list, create, delete.
//!
//! Owns the JSON of the wire and what an answer means. What to do about it is `reconcile`'s.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use super::{
    call::{Answer, LARGE, Platform},
    endpoint::redacted,
    problem::Words,
    token::{AccessToken, Cached, TokenError, TokenSource},
};
use crate::{clock::Clock, http_client::BodyError, metrics::Metrics};

const PATH: &str = "/events/api/v1/subscriptions";

/// A subscription's number at Altinn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(pub i64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SubscriptionId {
    /// As text: ids in listings are strings.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What we ask for. Its endpoint holds a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    /// The hook's URL, with its `code`.
    pub endpoint: Url,
    /// The whole URN.
    pub resource: String,
    /// A URN or Altinn path; `None` for every subject.
    pub subject: Option<String>,
    /// Exact; `None` for every type.
    pub ty: Option<String>,
    /// Also the subject's subunits.
    pub include_subunits: bool,
}

impl fmt::Debug for Spec {
    /// Without the secret and without the subject.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("endpoint", &redacted(&self.endpoint))
            .field("resource", &self.resource)
            .field("ty", &self.ty)
            .finish_non_exhaustive()
    }
}

/// A subscription as Altinn has it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Its number.
    pub id: SubscriptionId,
    /// As Altinn writes it; can hold a secret, ours or another's.
    #[serde(rename = "endPoint", alias = "endpoint", default)]
    pub endpoint: Option<String>,
    /// Ours have none.
    #[serde(rename = "sourceFilter", default)]
    pub source: Option<String>,
    /// Lower case.
    #[serde(rename = "resourceFilter", default)]
    pub resource: Option<String>,
    /// Exact.
    #[serde(rename = "subjectFilter", default)]
    pub subject: Option<String>,
    /// Exact.
    #[serde(rename = "typeFilter", default)]
    pub ty: Option<String>,
    /// Whose it is, by the token it was made with.
    #[serde(default)]
    pub consumer: Option<String>,
    /// When it was made, as Altinn writes it.
    #[serde(default)]
    pub created: Option<String>,
    /// Whether its endpoint has answered the validation event.
    #[serde(default)]
    pub validated: bool,
    /// Also the subject's subunits.
    #[serde(default)]
    pub include_subunits: bool,
}

impl fmt::Debug for Observed {
    /// Without endpoint, subject and consumer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("id", &self.id)
            .field("resource", &self.resource)
            .field("validated", &self.validated)
            .finish_non_exhaustive()
    }
}

/// Why a call did not do what it should; a caller decides by the kind.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// 401, also with a new token.
    #[error("Altinn refuses the token (401): {0}")]
    Unauthorized(Words),
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
    NotAuthorized(Words),
    /// 404.
    #[error("Altinn has no such subscription (404)")]
    NotFound,
    /// Another 4xx: the request is at fault, and repeating it does not help.
    #[error("Altinn refuses the request ({status}): {words}")]
    Rejected {
        /// The status.
        status: StatusCode,
        /// Altinn's reason.
        words: Words,
    },
    /// 429 or 5xx: later.
    #[error("Altinn cannot now ({status}): {words}")]
    Busy {
        /// The status.
        status: StatusCode,
        /// Altinn's reason.
        words: Words,
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
    pub fn words(&self) -> Words {
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
        Words { text: self.to_string(), trace_id }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateRequest<'a> {
    end_point: &'a str,
    resource_filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_filter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_filter: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    include_subunits: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Deserialize)]
struct List {
    subscriptions: Vec<Observed>,
}

/// The client. Clones share tokens and connections.
#[derive(Debug)]
pub struct Events<T> {
    tokens: Arc<Cached<T>>,
    platform: Arc<Platform>,
}

impl<T> Clone for Events<T> {
    fn clone(&self) -> Self {
        Self { tokens: Arc::clone(&self.tokens), platform: Arc::clone(&self.platform) }
    }
}

impl<T: TokenSource> Events<T> {
    pub(super) fn new(tokens: Arc<Cached<T>>, platform: Arc<Platform>) -> Self {
        Self { tokens, platform }
    }

    /// The tokens that calls carry.
    pub fn tokens(&self) -> &Cached<T> {
        &self.tokens
    }

    /// The clock that lifetimes are measured with.
    pub fn clock(&self) -> &Clock {
        &self.platform.tally.clock
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.platform.tally.metrics
    }

    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Every subscription of the token's identity, validated or not.
    pub async fn list(&self) -> Result<Vec<Observed>, ApiError> {
        let answer = self.call("list", |token| self.platform.request(Method::GET, PATH, token));
        Ok(read::<List>(&answer.await?)?.subscriptions)
    }

    /// Asks for a subscription, or, if Altinn has this very one, for its validation again.
    pub async fn create(&self, spec: &Spec) -> Result<Observed, ApiError> {
        let body = CreateRequest {
            end_point: spec.endpoint.as_str(),
            resource_filter: spec.resource.to_lowercase(),
            subject_filter: given(spec.subject.as_deref()),
            type_filter: given(spec.ty.as_deref()),
            include_subunits: spec.include_subunits,
        };
        let request = |token: &_| self.platform.request(Method::POST, PATH, token).json(&body);
        read(&self.call("create", request).await?)
    }

    /// Ends a subscription.
    pub async fn delete(&self, id: SubscriptionId) -> Result<(), ApiError> {
        let path = format!("{PATH}/{id}");
        let request = |token: &_| self.platform.request(Method::DELETE, &path, token);
        match self.call("delete", request).await {
            Ok(_) => Ok(()),
            // There is no rule about scopes or resources here, only about whose it is.
            Err(ApiError::MissingScope) => Err(ApiError::OtherOwner),
            Err(error) => Err(error),
        }
    }

    /// Sends with the token at hand; if that one is refused, once more with a new one.
    async fn call(
        &self,
        name: &'static str,
        request: impl Fn(&AccessToken) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, ApiError> {
        let answer = self.ask(name, request).await?;
        if answer.too_long {
            return Err(ApiError::Unreachable(BodyError::TooLong(LARGE).to_string()));
        }
        Ok(answer)
    }

    /// The same, but a good answer that is too long is told as that.
    pub(super) async fn ask(
        &self,
        name: &'static str,
        request: impl Fn(&AccessToken) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, ApiError> {
        let token = self.tokens.token().await?;
        let answer = self.send(name, request(&token)).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return good(answer);
        }
        self.tokens.invalidate(&token).await;
        let token = self.tokens.token().await?;
        let answer = self.send(name, request(&token)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.tokens.invalidate(&token).await;
        }
        good(answer)
    }

    async fn send(&self, name: &'static str, request: RequestBuilder) -> Result<Answer, ApiError> {
        self.platform.tally.send_for_part(name, request, LARGE).await.map_err(ApiError::Unreachable)
    }
}

/// An empty filter is not "no filter" at Altinn: it matches nothing.
pub(super) fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

fn read<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, ApiError> {
    // serde's message can quote a value; its place does not.
    serde_json::from_slice(&answer.body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::Malformed(format!("not the expected JSON at line {line}, column {column}"))
    })
}

fn good(answer: Answer) -> Result<Answer, ApiError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(answer);
    }
    let words = Words::of_body(&answer.body);
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

#[cfg(test)]
mod tests;
