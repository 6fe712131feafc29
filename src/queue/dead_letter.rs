//! What was given up, and what it is called.
//!
//! Owns the words for dead letters; the contract beside it says what is done with them.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::stored::{Seq, StoredEvent};
use crate::{
    clock::Timestamp,
    name::{HandlerName, HookName},
};

/// Why a delivery failed, in words for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// One line, without secrets.
    pub reason: String,
    /// The beginning of what the handler answered, if it did. Can be personal: not for logs.
    pub answer: Option<String>,
}

/// A dead letter's id: `HANDLER:SEQ`, or `raw:NUMBER` for an undecodable push.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadLetterId {
    /// An authenticated push that could not be decoded.
    Raw(u64),
    /// A delivery that was given up.
    Delivery(HandlerName, Seq),
}

/// Handlers may not have this name: it begins the ids of undecodable pushes.
pub const RAW: &str = "raw";

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(number) => write!(f, "{RAW}:{number}"),
            Self::Delivery(handler, seq) => write!(f, "{handler}:{seq}"),
        }
    }
}

/// A text that is no dead letter's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id is HANDLER:NUMBER or raw:NUMBER")]
pub struct InvalidDeadLetterId;

impl FromStr for DeadLetterId {
    type Err = InvalidDeadLetterId;

    fn from_str(text: &str) -> Result<Self, InvalidDeadLetterId> {
        let (handler, number) = text.split_once(':').ok_or(InvalidDeadLetterId)?;
        let number = number.parse().map_err(|_| InvalidDeadLetterId)?;
        if handler == RAW {
            return Ok(Self::Raw(number));
        }
        let handler = handler.parse().map_err(|_| InvalidDeadLetterId)?;
        Ok(Self::Delivery(handler, Seq(number)))
    }
}

/// Something kept until a person retries or discards it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What to call it.
    pub id: DeadLetterId,
    /// When it was given up.
    pub buried: Timestamp,
    /// How often it was tried; 0 for a raw one.
    pub attempts: u32,
    /// Why.
    pub failure: Failure,
    /// What it is.
    pub letter: Letter,
}

/// What a dead letter holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "listed by the page, not held by the million")]
pub enum Letter {
    /// An event that a handler did not take.
    Event(StoredEvent),
    /// A body that could not be decoded.
    Raw(RawPush),
}

/// An authenticated push whose body is no CloudEvent (design section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPush {
    /// The hook it came by.
    pub hook: HookName,
    /// Its media type, as sent.
    pub media_type: String,
    /// Its body, as sent.
    pub body: Bytes,
}

/// What makes two undecodable pushes the same dead letter: the hook and the body. However often a
/// body comes, pushed or by the feed, there is one letter of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawIdentity([u8; 32]);

impl RawPush {
    /// Its identity.
    pub fn identity(&self) -> RawIdentity {
        let mut digest = Context::new(&SHA256);
        digest.update(self.hook.as_str().as_bytes());
        // No name has it.
        digest.update(b"\0");
        digest.update(&self.body);
        let digest = digest.finish();
        RawIdentity(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }
}
