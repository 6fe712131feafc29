//! URLs: what each place allows. Pure; says what would be right, without the URL itself.

use url::{Host, Url};

/// What to say of `user:password@`.
pub(in crate::config) const CREDENTIALS: &str =
    "must be without credentials: a secret is never written here";

/// What to say of a port that nobody can listen on.
pub(in crate::config) const PORT: &str = "must have a port from 1 to 65535, or none";

/// Credentials, queries and fragments have no place in any of ours, nor what no client can call.
pub(in crate::config) fn bare(url: &Url) -> Result<(), String> {
    let fault = if !url.username().is_empty() || url.password().is_some() {
        CREDENTIALS
    } else if url.fragment().is_some() {
        "must be without a fragment (#…)"
    } else if url.query().is_some() {
        "must be without a query (?…)"
    } else if url.port() == Some(0) {
        PORT
    } else if !is_escaped(url.path()) {
        "has a % in its path without two hexadecimal digits after it: write %25 for a % itself"
    } else {
        return Ok(());
    };
    Err(fault.to_owned())
}

/// Whether each `%` begins an escape.
fn is_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        rest.as_bytes().first_chunk::<2>().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

/// https, or http on this machine.
pub(crate) fn encrypted_or_local(url: Url) -> Result<Url, String> {
    bare(&url)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must begin with https:// (http:// only for this machine itself)".to_owned()),
    }
}

/// The same without the slashes at the end of its path (a bare host keeps its one).
pub(in crate::config) fn without_slash(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
