//! Who sent a request, behind the proxies that are trusted.

use std::net::IpAddr;

use http::HeaderMap;

use crate::{
    network::{self, Network},
    server::Peer,
};

/// What proxies say of whom they forward.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The last hop that is not a trusted proxy. What stands before it in `X-Forwarded-For` is the
/// sender's own claim, and is not believed.
pub fn address(peer: Peer, head: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let nearest = peer.address.map(|address| address.ip().to_canonical());
    let is_trusted = |address: &IpAddr| network::any_contains(trusted, *address);
    // Over a Unix socket only a proxy comes, trusted if any is.
    let believed = nearest.map_or(!trusted.is_empty(), |address| is_trusted(&address));
    if !believed {
        return nearest;
    }
    let mut last = nearest;
    for value in head.get_all(FORWARDED_FOR).iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            // A hop that cannot be read: nothing beyond it can be told.
            let Some(hop) = read(hop.trim()) else { return last };
            last = Some(hop);
            if !is_trusted(&hop) {
                return last;
            }
        }
    }
    last
}

/// An address, perhaps with a port or in brackets, as some proxies write it.
fn read(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok();
    let with_port = || hop.parse().map(|address: std::net::SocketAddr| address.ip()).ok();
    address.or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed_and_only_about_the_hop_before_them() {
        // peer, X-Forwarded-For lines, expected; 10.0.0.0/30 and ::1 are trusted
        #[rustfmt::skip]
        let table: &[(Option<&str>, &[&str], Option<&str>)] = &[
            (Some("192.0.2.1:1"), &[], Some("192.0.2.1")),
            (Some("192.0.2.1:1"), &["198.51.100.7"], Some("192.0.2.1")),
            (Some("10.0.0.1:1"), &["198.51.100.7"], Some("198.51.100.7")),
            (Some("10.0.0.2:1"), &["198.51.100.7, 10.0.0.3"], Some("198.51.100.7")),
            (Some("10.0.0.4:1"), &["198.51.100.7"], Some("10.0.0.4")),
            (Some("[::ffff:10.0.0.1]:1"), &["198.51.100.7"], Some("198.51.100.7")),
            (Some("10.0.0.1:1"), &["203.0.113.9, 198.51.100.7"], Some("198.51.100.7")),
            (Some("10.0.0.1:1"), &["203.0.113.9, 198.51.100.7, ::1"], Some("198.51.100.7")),
            (Some("10.0.0.1:1"), &["203.0.113.9", "198.51.100.7", "10.0.0.1"], Some("198.51.100.7")),
            (Some("10.0.0.1:1"), &["198.51.100.7:4711"], Some("198.51.100.7")),
            (Some("10.0.0.1:1"), &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (Some("10.0.0.1:1"), &["[2001:db8::1]"], Some("2001:db8::1")),
            (Some("10.0.0.1:1"), &["198.51.100.7, unknown"], Some("10.0.0.1")),
            (Some("10.0.0.1:1"), &[""], Some("10.0.0.1")),
            (Some("10.0.0.1:1"), &[], Some("10.0.0.1")),
            (None, &["198.51.100.7"], Some("198.51.100.7")),
            (None, &[], None),
        ];
        let trusted = ["10.0.0.0/30".parse().unwrap(), "::1".parse().unwrap()];
        for (peer, lines, expected) in table {
            let mut head = HeaderMap::new();
            for line in *lines {
                head.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            let peer = Peer { address: peer.map(|text| text.parse().unwrap()) };
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address(peer, &head, &trusted), expected, "{peer:?} {lines:?}");
        }
        let forged = HeaderMap::from_iter([(
            http::HeaderName::from_static(FORWARDED_FOR),
            HeaderValue::from_static("198.51.100.7"),
        )]);
        assert_eq!(address(Peer { address: None }, &forged, &[]), None);
    }
}
