//! Networks of IP addresses, as CIDR writes them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Neither an address nor an address, a slash and a number.
    #[error(
        "must be an IP address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\" (a name \
         is not read)"
    )]
    Syntax,
    /// More bits than an address has.
    #[error("has a longer prefix than an address has bits")]
    Prefix,
    /// Almost always a slip: `10.1.2.3/8` was perhaps meant as `/32`.
    #[error("has bits set behind its prefix")]
    HostBits,
}

impl Network {
    /// A single address.
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: bits(address) }
    }

    /// The addresses that one peer can be expected to have: an IPv4 address alone, an IPv6 address
    /// with all of its /64, in which a machine gives itself new ones as it likes.
    pub fn of_one_peer(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::host(address.into()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let first = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
                Self { address: first.into(), prefix: 64 }
            }
        }
    }

    /// Whether the address is in it; an IPv4 address that is written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits(address) == bits(self.address) && leading(address, self.prefix) == self.leading()
    }

    fn leading(&self) -> u128 {
        leading(self.address, self.prefix)
    }
}

/// Whether the address is in any of them.
pub fn any_contains(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address without what stands behind its first `prefix` bits.
fn leading(address: IpAddr, prefix: u8) -> u128 {
    let behind = u32::from(bits(address).saturating_sub(prefix));
    number(address).checked_shr(behind).unwrap_or(0)
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| InvalidNetwork::Syntax);
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Syntax)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|c| c.is_ascii_digit());
        if !digits || (prefix.len() > 1 && prefix.starts_with('0')) {
            return Err(InvalidNetwork::Syntax);
        }
        let prefix: u8 = prefix.parse().map_err(|_| InvalidNetwork::Prefix)?;
        if prefix > bits(address) {
            return Err(InvalidNetwork::Prefix);
        }
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        let canonical = address.to_canonical();
        let Some(prefix) = prefix.checked_sub(bits(address) - bits(canonical)) else {
            return Err(InvalidNetwork::Prefix);
        };
        let network = Self { address: canonical, prefix };
        let behind = u32::from(bits(canonical) - prefix);
        let rest = number(canonical) ^ network.leading().checked_shl(behind).unwrap_or(0);
        if rest == 0 { Ok(network) } else { Err(InvalidNetwork::HostBits) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_has_the_addresses_under_its_prefix_and_no_others() {
        for (network, address, within) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("51.13.20.208/31", "51.13.20.208", true),
            ("51.13.20.208/31", "51.13.20.209", true),
            ("51.13.20.208/31", "51.13.20.210", false),
            ("20.100.46.139/32", "20.100.46.139", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), within, "{network} {address}");
        }
    }

    #[test]
    fn one_peer_has_an_ipv4_address_or_an_ipv6_64() {
        for (address, network) in [
            ("198.51.100.7", "198.51.100.7/32"),
            ("::ffff:198.51.100.7", "198.51.100.7/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            let peer = Network::of_one_peer(address.parse().unwrap());
            assert_eq!(peer.to_string(), network);
            assert!(peer.contains(address.parse().unwrap()));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, fault) in [
            ("", InvalidNetwork::Syntax),
            ("localhost", InvalidNetwork::Syntax),
            ("10.0.0/8", InvalidNetwork::Syntax),
            ("10.0.0.0/", InvalidNetwork::Syntax),
            ("10.0.0.0/08", InvalidNetwork::Syntax),
            ("10.0.0.0/+8", InvalidNetwork::Syntax),
            ("10.0.0.0/33", InvalidNetwork::Prefix),
            ("10.0.0.0/999", InvalidNetwork::Prefix),
            ("::/129", InvalidNetwork::Prefix),
            ("10.1.2.3/8", InvalidNetwork::HostBits),
            ("10.0.0.1/0", InvalidNetwork::HostBits),
            ("2001:db8::1/32", InvalidNetwork::HostBits),
            ("[::1]/128", InvalidNetwork::Syntax),
        ] {
            assert_eq!(text.parse::<Network>(), Err(fault), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_read_back(text in "[0-9a-f.:/]{0,30}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        }

        #[test]
        fn a_network_has_its_own_address(number: u128, prefix in 0u8..=128) {
            let kept = if prefix == 0 { 0 } else { u128::MAX << (128 - u32::from(prefix)) };
            let address = IpAddr::from(Ipv6Addr::from(number & kept));
            if let Ok(network) = format!("{address}/{prefix}").parse::<Network>() {
                prop_assert!(network.contains(address));
            }
        }
    }
}
