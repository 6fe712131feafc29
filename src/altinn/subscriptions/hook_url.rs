//! The endpoints that Altinn is told: which are ours, when two are the same, how they are shown.
//!
//! Pure. Owns the one spelling that URLs are compared in.

use url::{Url, form_urlencoded};

use crate::secret::Digest;

/// What stands after `{public_url}/hooks/`, if the URL is under that.
pub fn hook_of(endpoint: &Url, public_url: &Url) -> Option<String> {
    let same_place = endpoint.scheme() == public_url.scheme()
        && endpoint.host() == public_url.host()
        && endpoint.port_or_known_default() == public_url.port_or_known_default()
        && endpoint.username().is_empty()
        && endpoint.password().is_none();
    if !same_place || endpoint.cannot_be_a_base() {
        return None;
    }
    let prefix = normal(public_url.path());
    let path = normal(endpoint.path());
    let name = path.strip_prefix(prefix.trim_end_matches('/'))?.strip_prefix("/hooks/")?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// One spelling for one URL. `Url` has done the host, the default port and dot segments; left are
/// percent-encodings, which Altinn (.NET) and `Url` write differently (RFC 3986 section 6.2.2).
pub(crate) fn normal(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = if first == b'%' { escape(tail) } else { None };
        let byte = escaped.unwrap_or(first);
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        // An escaped reserved character means something else than the character itself.
        if unreserved(byte) || escaped.is_none() && RESERVED.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(percent_encoding::percent_encode_byte(byte));
        }
    }
    out
}

/// RFC 3986 section 2.2.
const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The byte that two hexadecimal digits stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A URL for people: every value in its query, its user and its fragment are `***`.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Refused only for URLs that cannot have them.
    let user = !url.username().is_empty() || url.password().is_some();
    if user && (shown.set_password(None).is_err() || shown.set_username("***").is_err()) {
        return "***".to_owned();
    }
    let query = url.query().map(|query| {
        let hide = |pair: &str| match pair.split_once('=') {
            Some((key, _)) => format!("{key}=***"),
            None => "***".to_owned(),
        };
        query.split('&').map(hide).collect::<Vec<_>>().join("&")
    });
    shown.set_query(query.as_deref());
    shown.set_fragment(url.fragment().map(|_| "***"));
    shown.into()
}

/// The digest of the secret in a hook's URL.
pub(crate) fn code_of(endpoint: &Url) -> Option<Digest> {
    let query = endpoint.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "code").map(|(_, code)| Digest::of(&code))
}
