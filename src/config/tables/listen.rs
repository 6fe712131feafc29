//! Addresses to listen on: those that the system cannot give at once are a fault of the configuration.
//!
//! Owns the comparison, which is pure. Whether another program has an address is seen when it is bound.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `server.listen`. The system gives port 0 anew each time; any other can be listened on once.
pub(super) fn all(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    if addresses.is_empty() {
        return Err("is empty: name an address, such as \"[::]:8443\"".to_owned());
    }
    for (at, one) in addresses.iter().enumerate() {
        let before = addresses.iter().take(at);
        if let Some(other) = before.into_iter().find(|other| collide(one, other, &addresses)) {
            let at = at + 1;
            return Err(if one == other {
                format!("has item {at} twice: take one out")
            } else {
                format!(
                    "has item {at}, {one}, which is a part of {other} or the whole of it: take one out"
                )
            });
        }
    }
    Ok(addresses)
}

/// Whether the admin API cannot listen here beside the hooks.
pub(super) fn beside(admin: SocketAddr, hooks: &[SocketAddr]) -> Option<String> {
    // The wildcard of IPv6 alone takes IPv4, too, for the admin API.
    let takes_both = admin.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let taken = |one: &&SocketAddr| {
        collide(&admin, one, hooks)
            || (takes_both && admin.port() != 0 && admin.port() == one.port())
    };
    let taken = hooks.iter().find(taken)?;
    Some(if *taken == admin {
        "is also in server.listen: give the admin API its own port".to_owned()
    } else {
        format!("collides with {taken} of server.listen: give the admin API its own port")
    })
}

/// Whether one of them has the other's port and address. The wildcard of IPv6 takes IPv4, too, unless IPv4 has listeners
/// of its own in `all`.
fn collide(one: &SocketAddr, other: &SocketAddr, all: &[SocketAddr]) -> bool {
    if one.port() != other.port() || one.port() == 0 {
        return false;
    }
    let (left, right) = (one.ip().to_canonical(), other.ip().to_canonical());
    let any_ipv6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let both = |ip: IpAddr| {
        ip == any_ipv6 && !all.iter().any(|one_of| one_of.is_ipv4() && one_of.port() == one.port())
    };
    let same_family = left.is_ipv4() == right.is_ipv4();
    left == right
        || (same_family && (left.is_unspecified() || right.is_unspecified()))
        || both(left)
        || both(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_that_is_a_part_of_another_is_refused() {
        for (texts, good) in [
            (&["127.0.0.1:8443", "127.0.0.2:8443"][..], true),
            (&["127.0.0.1:8443", "127.0.0.1:8444"], true),
            (&["127.0.0.1:0", "127.0.0.1:0"], true),
            (&["[::]:8443", "0.0.0.0:8443"], true),
            (&["[::]:8443", "127.0.0.1:8443"], true),
            (&["[::1]:8443", "0.0.0.0:8443"], true),
            (&["127.0.0.1:8443", "127.0.0.1:8443"], false),
            (&["0.0.0.0:8443", "127.0.0.1:8443"], false),
            (&["127.0.0.1:8443", "0.0.0.0:8443"], false),
            (&["[::]:8443", "[::1]:8443"], false),
            (&["[::ffff:127.0.0.1]:8443", "127.0.0.1:8443"], false),
            (&["[::]:8443", "[::ffff:127.0.0.1]:8443"], false),
        ] {
            assert_eq!(all(parsed(texts)).is_ok(), good, "{texts:?}");
        }
    }

    #[test]
    fn the_admin_api_has_an_address_of_its_own() {
        for (admin, hooks, good) in [
            ("127.0.0.1:8444", &["[::]:8443"][..], true),
            ("127.0.0.1:0", &["127.0.0.1:0"], true),
            ("127.0.0.2:8443", &["127.0.0.1:8443"], true),
            ("127.0.0.1:8443", &["[::]:8443", "192.0.2.1:8443"], true),
            ("127.0.0.1:8443", &["127.0.0.1:8443"], false),
            ("127.0.0.1:8443", &["0.0.0.0:8443"], false),
            ("127.0.0.1:8443", &["[::]:8443"], false),
            ("127.0.0.1:8443", &["[::]:8443", "0.0.0.0:8443"], false),
            ("[::]:8443", &["127.0.0.1:8443"], false),
            ("[::1]:8443", &["[::]:8443"], false),
        ] {
            let told = beside(admin.parse().unwrap(), &parsed(hooks));
            assert_eq!(told.is_none(), good, "{admin} {hooks:?} {told:?}");
        }
    }
}
