//! URLs: what each place allows. Pure; says what would be right, without the URL itself.

use url::{Host, Url};

/// What to say of `user:password@`.
pub(in crate::config) const CREDENTIALS: &str =
    "must be without credentials: a secret is never written here";

/// Credentials, queries and fragments have no place in any of ours.
pub(in crate::config) fn bare(url: &Url) -> Result<(), String> {
    let fault = if !url.username().is_empty() || url.password().is_some() {
        CREDENTIALS
    } else if url.fragment().is_some() {
        "must be without a fragment (#…)"
    } else if url.query().is_some() {
        "must be without a query (?…)"
    } else {
        return Ok(());
    };
    Err(fault.to_owned())
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
