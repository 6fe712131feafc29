//! Standard Webhooks signatures, version 1: HMAC-SHA256 over `id.timestamp.body`.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret, SecretBox};

use crate::{
    clock::{Clock, Timestamp},
    server::headers::only,
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// So many signatures of one request are looked at; a sender has one for each of its keys.
const MAX_SIGNATURES: usize = 8;

/// What the headers say.
pub(super) struct Signed<'a> {
    id: &'a str,
    timestamp: &'a str,
    at: Timestamp,
    signatures: &'a str,
}

/// The three headers, each there once and readable.
pub(super) fn read(head: &HeaderMap) -> Option<Signed<'_>> {
    let text = |name| only(head, &name)?.to_str().ok();
    let timestamp = text(TIMESTAMP)?;
    let at = Timestamp::from_millis(timestamp.parse::<u64>().ok()?.checked_mul(1000)?);
    let id = text(ID).filter(|id| !id.is_empty())?;
    Some(Signed { id, timestamp, at, signatures: text(SIGNATURE)? })
}

impl Signed<'_> {
    /// Whether it was signed lately, or will be soon: an old request must not be sent again.
    pub(super) fn is_fresh(&self, clock: &Clock, tolerance: Duration) -> bool {
        let now = clock.now();
        now.since(self.at) <= tolerance && self.at.since(now) <= tolerance
    }

    /// Whether any signature is any key's over this body, in constant time for each.
    pub(super) fn is_genuine(&self, keys: &[SecretBox<Vec<u8>>], body: &Bytes) -> bool {
        let mut message = format!("{}.{}.", self.id, self.timestamp).into_bytes();
        message.extend_from_slice(body);
        let offered: Vec<Vec<u8>> = self
            .signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(MAX_SIGNATURES)
            .filter_map(|signature| BASE64_STANDARD.decode(signature).ok())
            .collect();
        keys.iter().any(|key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret());
            offered.iter().any(|tag| hmac::verify(&key, &message, tag).is_ok())
        })
    }
}
