//! Altinn Events' subscription API: list, create, delete.
//!
//! Owns the JSON of the wire. What to do about an answer is `plan`'s and `executor`'s.

use std::fmt;

use reqwest::Method;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use super::hook_url::redacted;
use crate::altinn::{
    auth::token::TokenSource,
    events_api::{ApiError, EventsApi},
    http::client::Answer,
};

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

impl<T: TokenSource> EventsApi<T> {
    /// Every subscription of the token's identity, validated or not.
    pub async fn list(&self) -> Result<Vec<Observed>, ApiError> {
        let answer = self.call("list", |token| self.platform().request(Method::GET, PATH, token));
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
        let request = |token: &_| self.platform().request(Method::POST, PATH, token).json(&body);
        read(&self.call("create", request).await?)
    }

    /// Ends a subscription.
    pub async fn delete(&self, id: SubscriptionId) -> Result<(), ApiError> {
        let path = format!("{PATH}/{id}");
        let request = |token: &_| self.platform().request(Method::DELETE, &path, token);
        match self.call("delete", request).await {
            Ok(_) => Ok(()),
            // There is no rule about scopes or resources here, only about whose it is.
            Err(ApiError::MissingScope) => Err(ApiError::OtherOwner),
            Err(error) => Err(error),
        }
    }
}

/// An empty filter is not "no filter" at Altinn: it matches nothing.
pub(crate) fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

fn read<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, ApiError> {
    // serde's message can quote a value; its place does not.
    serde_json::from_slice(&answer.body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::Malformed(format!("not the expected JSON at line {line}, column {column}"))
    })
}

#[cfg(test)]
mod tests;
