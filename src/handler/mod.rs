//! Handlers: the local targets that events are delivered to.
//!
//! Owns the contract. Each kind is one file beside this one; when to try again is dispatch's.

pub mod context;
pub mod exec;
pub mod file;
pub mod http;

use std::time::Duration;

use async_trait::async_trait;

use crate::queue::{Failure, StoredEvent};

/// One attempt to deliver one event.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What to deliver.
    pub stored: &'a StoredEvent,
    /// Counts from 1.
    pub number: u32,
    /// The same for one event of one origin, always.
    pub idempotency_key: &'a str,
}

/// How an attempt ended. A total outcome, not a `Result`: nobody can forget the status code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The handler has it.
    Delivered,
    /// Not now.
    Retry {
        /// Why.
        failure: Failure,
        /// The handler asked for this much time (Retry-After).
        after: Option<Duration>,
    },
    /// Never: to the dead letters at once.
    Rejected {
        /// Why.
        failure: Failure,
    },
}

impl Outcome {
    /// A retry with only a reason.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { failure: Failure { reason: reason.into(), answer: None }, after: None }
    }
}

/// A local target.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Delivers one event. May be dropped at its time-out: then nothing of it may go on (a child
    /// process is killed, a connection closed).
    async fn deliver(&self, attempt: Attempt<'_>) -> Outcome;

    /// SIGHUP: open files anew.
    fn reopen(&self) {}
}
