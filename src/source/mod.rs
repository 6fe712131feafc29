//! Sources: who sends, how they prove it, and what their requests mean.
//!
//! Owns the contract: bytes in, trust or refusal out; no socket, no store, so that it can be
//! tabled and fuzzed. The order of checks is design section 9: path and method (the ingress's),
//! allow list, secret, media type, size (the ingress's), content.

pub mod altinn;
pub mod cloudevents;
pub mod membership;
pub mod secrets;

use bytes::Bytes;
use http::{HeaderMap, request::Parts};

use crate::{event::Arrival, queue::RawPush};

/// What a request to a hook turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// A handshake: answer 200, store nothing.
    Validation,
    /// To be stored, all or none.
    Events(Vec<Arrival>),
    /// From a trusted sender, but not all of it CloudEvents: what is none is to be kept as dead
    /// letters together with the events, and answered 200, because the same bytes would only come
    /// again.
    Undecodable {
        /// To be stored.
        events: Vec<Arrival>,
        /// To be kept; never empty.
        rest: Vec<Undecodable>,
    },
}

/// What is no `CloudEvent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// What came.
    pub push: RawPush,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a request is refused. The peer learns the status and no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 401.
    #[error("wrong or missing secret")]
    Unauthenticated,
    /// 415.
    #[error("not a CloudEvent's media type")]
    UnsupportedMediaType,
    /// 415.
    #[error("binary mode: the signature covers the body, and the attributes are in headers")]
    UnsignedAttributes,
    /// 400, with the attribute and the rule.
    #[error("{0}")]
    Malformed(String),
}

/// One hook's sender.
pub trait Source: Send + Sync {
    /// Whether the request may go on to its body: secret, then media type.
    fn check(&self, head: &Parts) -> Result<(), Refusal>;

    /// Whether a request that passed [`Source::check`] has proved its sender; a signature over the
    /// body has not yet.
    fn proves_by_head(&self) -> bool {
        true
    }

    /// What a request that passed [`Source::check`] means.
    fn admit(&self, head: &Parts, body: Bytes) -> Result<Admission, Refusal>;

    /// The answer to an OPTIONS handshake (CloudEvents HTTP webhook, section 4), or `None` where
    /// the source has none: then 405.
    fn handshake(&self, head: &Parts) -> Option<Handshake>;
}

/// The answer to an OPTIONS handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake {
    /// 200 with these headers.
    Allowed(HeaderMap),
    /// 403 without any.
    Denied,
}
