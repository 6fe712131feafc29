//! The `Host` of a request: there once and readable, or the request is refused (RFC 9112 section
//! 3.2, RFC 9113 section 8.3.1).

use std::net::IpAddr;

use http::{Request, Version, header::HOST, uri::Authority};

/// What is wrong with the request's `Host`.
pub(super) fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Some("more than one Host");
    }
    let named = request.uri().authority().filter(|_| request.version() == Version::HTTP_2);
    let Some(host) = first else {
        let may_be_missing = request.version() < Version::HTTP_11 || named.is_some();
        return (!may_be_missing).then_some("no Host");
    };
    let Some(host) = host.to_str().ok().filter(|host| is_host(host)) else {
        return Some("a Host that is no host");
    };
    let other = named.is_some_and(|named| !named.as_str().eq_ignore_ascii_case(host));
    other.then_some("a Host beside another :authority")
}

/// Whether the `Host` can be what this machine calls itself: `localhost`, or an address. A page in a browser
/// here can have any other name lead to a loopback address, and read what is answered (DNS rebinding).
pub fn is_local<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    let Ok(host) = host.to_str().unwrap_or_default().parse::<Authority>() else {
        return host.is_empty();
    };
    let host = host.host().trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok() || host == "localhost" || host.ends_with(".localhost")
}

/// A host, perhaps with a port; without an authority in the URL it may be empty.
fn is_host(text: &str) -> bool {
    text.is_empty() || text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_someone_else_gives_is_not_this_machines() {
        for (host, local) in [
            ("localhost", true),
            ("LOCALHOST:9644", true),
            ("a.localhost.", true),
            ("127.0.0.1:9644", true),
            ("[::1]:9644", true),
            ("10.0.0.7", true),
            ("", true),
            ("evil.example:9644", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evillocalhost", false),
            ("a b", false),
        ] {
            let request = Request::get("/").header(HOST, host).body(()).unwrap();
            assert_eq!(is_local(&request), local, "{host}");
        }
        assert!(is_local(&Request::get("/").body(()).unwrap()));
    }

    #[test]
    fn a_host_is_there_once_and_is_one() {
        let (old, one, two) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, uri, hosts, fault_told) in [
            (one, "/", &["a.no"][..], None),
            (one, "/", &["a.no:8443"], None),
            (one, "/", &["[::1]:8443"], None),
            (one, "/", &[""], None),
            (one, "http://a.no/", &["a.no"], None),
            (one, "/", &[], Some("no Host")),
            (one, "http://a.no/", &[], Some("no Host")),
            (one, "/", &["a.no", "a.no"], Some("more than one Host")),
            (one, "/", &["a b"], Some("a Host that is no host")),
            (one, "/", &["a.no/path"], Some("a Host that is no host")),
            (one, "/", &["x@a.no"], Some("a Host that is no host")),
            (one, "/", &["a.no,b.no"], None),
            (old, "/", &[], None),
            (old, "/", &["a.no", "b.no"], Some("more than one Host")),
            (two, "https://a.no/", &[], None),
            (two, "https://a.no/", &["A.no"], None),
            (two, "https://a.no/", &["b.no"], Some("a Host beside another :authority")),
            (two, "/", &["a.no"], None),
            (two, "/", &[], Some("no Host")),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(fault(&request), fault_told, "{version:?} {uri} {hosts:?}");
        }
    }
}
