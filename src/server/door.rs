//! Who is let in where strangers can connect, and what they may take before they have proved
//! anything.
//!
//! Owns the decision at the moment of accepting, by address alone. Slots are given in `slots`.

use std::{fmt, net::IpAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use super::slots::Holder;
use crate::network::{self, Network};

/// Whether an address may connect at all.
pub type AllowFn = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The rules of a socket that strangers can connect to.
#[derive(Clone)]
pub struct Door {
    /// Connections of one IPv4 address, or of one IPv6 /64.
    pub share: NonZeroUsize,
    /// What a connection may do until a request on it was accepted.
    pub unproven: Unproven,
    /// Proxies speak for many: they have no share, and nothing to prove.
    pub proxies: Vec<Network>,
    /// Each connection begins with a PROXY header from one of the proxies; then the share is that
    /// of the peer whom it names.
    pub proxy_protocol: bool,
    /// Who may connect; `None` for everyone. This machine itself always may.
    pub allows: Option<AllowFn>,
}

/// What a connection may do until a request on it was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Unproven {
    /// It is ended at this age.
    pub age: Duration,
    /// It is ended after this many requests; on HTTP/2 after ten times as many.
    pub requests: u32,
    /// It is ended after this many refusals; on HTTP/2 after ten times as many.
    pub refusals: u32,
}

/// An HTTP/2 connection has several requests at a time, and its end can cost those that are just
/// being sent.
pub(super) const SHARED: u32 = 10;

impl Unproven {
    /// A sender that means well needs less than these.
    pub const fn within(age: Duration) -> Self {
        Self { age, requests: 1000, refusals: 100 }
    }
}

/// What becomes of a connection that was just accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It begins with what a proxy says.
    Proxied,
    /// A proxy whose requests say for whom they are.
    Proxy,
    /// Anyone else, and whose share it takes of.
    Guest(Holder),
    /// It is outside of the list.
    NotAllowed,
    /// It is to begin with a PROXY header, and is from no proxy.
    NoProxy,
}

impl Door {
    /// `own` is this machine's end of the connection.
    pub(super) fn entrance(&self, peer: IpAddr, own: impl Fn() -> Option<IpAddr>) -> Entrance {
        let is_proxy = network::any_contains(&self.proxies, peer);
        if self.proxy_protocol {
            return if is_proxy { Entrance::Proxied } else { Entrance::NoProxy };
        }
        if is_proxy {
            return Entrance::Proxy;
        }
        let is_self = || own().is_some_and(|own| own.to_canonical() == peer.to_canonical());
        let allowed = self.allows.as_ref().is_none_or(|allows| allows(peer) || is_self());
        if !allowed {
            return Entrance::NotAllowed;
        }
        Entrance::Guest(Some(Network::of_one_peer(peer)))
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("share", &self.share).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(proxies: &[&str], proxy_protocol: bool, allowed: Option<&str>) -> Door {
        let allows = allowed.map(|text| {
            let allowed: Network = text.parse().unwrap();
            let allows: AllowFn = Arc::new(move |address| allowed.contains(address));
            allows
        });
        let proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let share = NonZeroUsize::new(4).unwrap();
        let unproven = Unproven::within(Duration::from_secs(50));
        Door { share, unproven, proxies, proxy_protocol, allows }
    }

    #[test]
    fn an_address_decides_who_comes_in_and_as_what() {
        let own = "192.0.2.1";
        let guest = |text: &str| Entrance::Guest(Some(Network::of_one_peer(text.parse().unwrap())));
        let stranger = "198.51.100.7";
        for (door, peer, expected) in [
            (door(&[], false, None), stranger, guest(stranger)),
            (door(&[], false, None), "::ffff:198.51.100.7", guest(stranger)),
            (door(&[], false, Some("10.0.0.0/8")), stranger, Entrance::NotAllowed),
            (door(&[], false, Some("10.0.0.0/8")), "10.1.2.3", guest("10.1.2.3")),
            // This machine asks its own endpoint whether it is reached.
            (door(&[], false, Some("10.0.0.0/8")), own, guest(own)),
            (door(&[], false, Some("10.0.0.0/8")), "::ffff:192.0.2.1", guest(own)),
            (door(&["10.0.0.0/8"], false, None), "10.0.0.1", Entrance::Proxy),
            (door(&["10.0.0.0/8"], false, None), stranger, guest(stranger)),
            (door(&["10.0.0.0/8"], true, None), "10.0.0.1", Entrance::Proxied),
            (door(&["10.0.0.0/8"], true, None), stranger, Entrance::NoProxy),
            (door(&["10.0.0.0/8"], true, None), own, Entrance::NoProxy),
        ] {
            let entrance = door.entrance(peer.parse().unwrap(), || Some(own.parse().unwrap()));
            assert_eq!(entrance, expected, "{peer} {:?}", door.proxies);
        }
    }
}
