//! Request headers that count only if they stand there once.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

/// The token after `Bearer`, whose case is free (RFC 9110 section 11.1).
pub fn bearer(head: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(head, &AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A header that is there once.
pub fn only<'a>(head: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = head.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
