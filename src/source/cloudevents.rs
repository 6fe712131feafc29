//! Any other sender of `CloudEvents`: a bearer token or a signature proves it.
//!
//! Owns the authentication and the OPTIONS handshake (`CloudEvents` HTTP webhook, section 4); what
//! events are is `event::decode`'s.

mod signature;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::ALLOW, request::Parts};

use super::{Admission, Handshake, Refusal, Source, secrets::HookSecrets};
use crate::{
    clock::Clock,
    event::{
        Arrival, Event, Origin,
        decode::{
            Rules, decode, decode_json,
            media_type::{MediaType, media_type_of},
        },
    },
    name::HookName,
    server::headers::{bearer, only},
};

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
/// What a hook with a handshake answers to.
const METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// One configured sender.
#[derive(Debug)]
pub struct CloudEvents {
    /// Its name.
    pub name: HookName,
    /// How it proves itself.
    pub auth: Auth,
    /// Who may ask by OPTIONS; nobody, if empty.
    pub allowed_origins: Vec<String>,
}

/// How a sender proves itself.
#[derive(Debug)]
pub enum Auth {
    /// `Authorization: Bearer` and one of these.
    Bearer(HookSecrets),
    /// Standard Webhooks: an HMAC over id, timestamp and body. Binary mode, whose attributes are
    /// in headers, is refused: anyone could send a signed body again as another event.
    StandardWebhooks {
        /// The keys, each accepted.
        keys: HookSecrets,
        /// How far the timestamp may be off, either way.
        tolerance: Duration,
        /// What it is compared with.
        clock: Clock,
    },
    /// Not at all: it was let in by its address.
    AllowFrom,
}

impl Auth {
    /// Whether what proves the sender is a signature over the body, so that headers can be anyone's.
    fn signs_the_body(&self) -> bool {
        matches!(self, Self::StandardWebhooks { .. })
    }

    /// What is read from a file, if anything is.
    pub fn secrets(&self) -> Option<&HookSecrets> {
        match self {
            Self::Bearer(secrets) | Self::StandardWebhooks { keys: secrets, .. } => Some(secrets),
            Self::AllowFrom => None,
        }
    }
}

impl Source for CloudEvents {
    fn check(&self, head: &Parts) -> Result<(), Refusal> {
        let genuine = match &self.auth {
            Auth::Bearer(tokens) => {
                bearer(&head.headers).is_some_and(|token| tokens.accepts(token))
            }
            // The signature itself needs the body; a stale or unsigned request ends here.
            Auth::StandardWebhooks { tolerance, clock, .. } => signature::read(&head.headers)
                .is_some_and(|signed| signed.is_fresh(clock, *tolerance)),
            Auth::AllowFrom => true,
        };
        if !genuine {
            return Err(Refusal::Unauthenticated);
        }
        match media_type_of(&head.headers) {
            Some(MediaType::Binary) if self.auth.signs_the_body() => {
                Err(Refusal::UnsignedAttributes)
            }
            Some(_) => Ok(()),
            None => Err(Refusal::UnsupportedMediaType),
        }
    }

    fn proves_by_head(&self) -> bool {
        !matches!(self.auth, Auth::StandardWebhooks { .. })
    }

    fn admit(&self, head: &Parts, body: Bytes) -> Result<Admission, Refusal> {
        if let Auth::StandardWebhooks { keys, .. } = &self.auth {
            let signed = signature::read(&head.headers).ok_or(Refusal::Unauthenticated)?;
            if !signed.is_genuine(&keys.keys(), &body) {
                return Err(Refusal::Unauthenticated);
            }
        }
        // Where only the body is signed, no header is believed, nor says what the body is.
        let events = if self.auth.signs_the_body() {
            decode_json(body, Rules::Strict)
        } else {
            decode(&head.headers, body, Rules::Strict)
        };
        let events = events.map_err(|fault| Refusal::Malformed(fault.to_string()))?;
        Ok(Admission::Events(events.into_iter().map(|event| self.arrival(event)).collect()))
    }

    fn handshake(&self, head: &Parts) -> Option<Handshake> {
        if self.allowed_origins.is_empty() {
            return None;
        }
        Some(self.allowed(&head.headers).map_or(Handshake::Denied, Handshake::Allowed))
    }
}

impl CloudEvents {
    fn arrival(&self, event: Event) -> Arrival {
        let origin = Origin::Source(self.name.clone());
        Arrival { event, origin, from: vec![self.name.clone()], only_by_hook: None }
    }

    /// The headers that allow this origin. A callback URL is not called: that would let anyone
    /// have us send requests, and the answer itself is the consent (section 4.2).
    fn allowed(&self, head: &HeaderMap) -> Option<HeaderMap> {
        let origin = only(head, &REQUEST_ORIGIN)?;
        let asked = origin.to_str().ok()?;
        // Host names have no case; nothing else is let pass, no part and no suffix.
        if !self.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(asked)) {
            return None;
        }
        Some(HeaderMap::from_iter([
            (ALLOWED_ORIGIN, origin.clone()),
            // No limit by rate (section 4.2.2): who sends too much is told 503 and Retry-After.
            (ALLOWED_RATE, HeaderValue::from_static("*")),
            (ALLOW, METHODS),
        ]))
    }
}

#[cfg(test)]
mod tests;
