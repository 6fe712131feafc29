//! The PROXY protocol, version 2: a proxy says who is behind it, before anything else.
//!
//! Owns the header's bytes and how they are read from a connection: never one byte more than it
//! has. Version 1 is text without a length in front, and is not read.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub const FIXED: usize = 16;
/// Addresses and extensions (TLVs) of a header; a longer one is no honest proxy's.
pub const MAX_REST: usize = 4096;

/// A text header, which is not read.
const VERSION_1: &str = "version 1 of the PROXY protocol";
/// Neither version.
const NO_SIGNATURE: &str = "no signature of version 2";
/// From someone who may not say who is behind it.
pub(super) const NO_PROXY: &str = "it is from no trusted proxy";

/// Why a connection is closed before its first request.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It broke off.
    #[error("the connection broke off: {0}")]
    Broken(#[from] io::Error),
    /// Not a header of version 2.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// What to do about connections that are closed for this.
pub(super) fn cure(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Malformed(VERSION_1) => {
            "only version 2 is read: HAProxy has send-proxy-v2 for it; a proxy that has version 1 \
             alone, such as nginx, has to end TLS and pass X-Forwarded-For on instead \
             (server.proxy_protocol = false)"
        }
        ProxyError::Malformed(NO_PROXY) => {
            "if it is a proxy, add its address to server.trusted_proxies; if not, connections must \
             come through the proxy"
        }
        ProxyError::Broken(_) | ProxyError::Malformed(_) => {
            "have the proxy begin each connection with one (HAProxy: send-proxy-v2; AWS NLB: \
             proxy_protocol_v2.enabled), health checks included, or set \
             server.proxy_protocol = false"
        }
    }
}

/// What the fixed part says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    kind: Kind,
    /// Bytes of addresses and extensions that follow.
    pub rest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The proxy speaks for itself: a health check.
    Local,
    /// For a peer over TCP and IPv4.
    Four,
    /// For a peer over TCP and IPv6.
    Six,
    /// For a peer without an address that we know.
    Unknown,
}

/// Reads the fixed part.
pub fn head(fixed: &[u8; FIXED]) -> Result<Head, ProxyError> {
    let malformed = |what| Err(ProxyError::Malformed(what));
    let [signature @ .., version, family, high, low] = fixed;
    if *signature != SIGNATURE {
        let text = signature.starts_with(b"PROXY ");
        return malformed(if text { VERSION_1 } else { NO_SIGNATURE });
    }
    let kind = match (version, family) {
        (0x20, _) => Kind::Local,
        (0x21, 0x11) => Kind::Four,
        (0x21, 0x21) => Kind::Six,
        (0x21, 0x00) => Kind::Unknown,
        (0x21, _) => return malformed("neither TCP nor unspecified"),
        _ => return malformed("an unknown version or command"),
    };
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    if rest > MAX_REST {
        return malformed("too long");
    }
    Ok(Head { kind, rest })
}

/// Reads what follows: the peer's address, or `None` where the connection's own counts.
pub fn address(head: Head, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let short = ProxyError::Malformed("shorter than its addresses");
    let (ip, port): (IpAddr, _) = match head.kind {
        Kind::Local | Kind::Unknown => return Ok(None),
        Kind::Four => match rest.first_chunk::<12>() {
            Some([a, b, c, d, _, _, _, _, high, low, _, _]) => {
                (Ipv4Addr::new(*a, *b, *c, *d).into(), [*high, *low])
            }
            None => return Err(short),
        },
        Kind::Six => match (rest.first_chunk::<16>(), rest.get(32..).and_then(<[u8]>::first_chunk))
        {
            (Some(source), Some([high, low, _, _])) => {
                (Ipv6Addr::from(*source).into(), [*high, *low])
            }
            (_, _) => return Err(short),
        },
    };
    Ok(Some(SocketAddr::new(ip, u16::from_be_bytes(port))))
}

/// Reads a whole header off a connection.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let head = head(&fixed)?;
    let mut rest = vec![0; head.rest];
    stream.read_exact(&mut rest).await?;
    address(head, &rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version, family], &length, rest].concat()
    }

    fn four() -> Vec<u8> {
        vec![198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 0x20, 0xfb]
    }

    async fn read_all(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let mut left = bytes;
        let result = read(&mut left).await;
        (result, left.len())
    }

    #[tokio::test]
    async fn a_header_tells_the_peer_and_not_a_byte_more_is_read() {
        let six: Vec<u8> = [
            "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
            "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets(),
        ]
        .concat();
        let six = [&six[..], &[0x12, 0x67, 0x20, 0xfb]].concat();
        let with_extension = [&four()[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (bytes, expected) in [
            (header(0x21, 0x11, &four()), Some("198.51.100.7:4711")),
            (header(0x21, 0x11, &with_extension), Some("198.51.100.7:4711")),
            (header(0x21, 0x21, &six), Some("[2001:db8::1]:4711")),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &four()), None),
        ] {
            let request = b"GET / HTTP/1.1\r\n";
            let (address, left) = read_all(&[&bytes[..], request].concat()).await;
            assert_eq!(address.unwrap(), expected.map(|text| text.parse().unwrap()));
            assert_eq!(left, request.len());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let mut broken = header(0x21, 0x11, &four());
        broken[0] = b'G';
        for (bytes, words) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no signature"),
            (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 8443\r\n".to_vec(), "version 1"),
            (broken, "no signature"),
            (header(0x11, 0x11, &four()), "unknown version"),
            (header(0x22, 0x11, &four()), "unknown version"),
            (header(0x21, 0x12, &four()), "neither TCP"),
            (header(0x21, 0x31, &[0; 216]), "neither TCP"),
            (header(0x21, 0x11, &four()[..11]), "shorter"),
            (header(0x21, 0x21, &[0; 35]), "shorter"),
            (header(0x21, 0x11, &[0; MAX_REST + 1]), "too long"),
            (header(0x21, 0x11, &four())[..20].to_vec(), "broke off"),
            (Vec::new(), "broke off"),
        ] {
            let fault = read_all(&bytes).await.0.unwrap_err().to_string();
            assert!(fault.contains(words), "{fault}: {words}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            fixed: [u8; FIXED],
            signed: bool,
            version in prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0x11), Just(0x21), any::<u8>()],
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut fixed = fixed;
            if signed {
                fixed[..12].copy_from_slice(&SIGNATURE);
                fixed[12] = version;
                fixed[13] = family;
            }
            if let Ok(head) = head(&fixed) {
                prop_assert!(signed && head.rest <= MAX_REST);
                let told = address(head, &rest);
                prop_assert!(told.is_ok() || rest.len() < 36);
            }
        }

        #[test]
        fn what_a_proxy_writes_is_read_back(source: [u8; 16], port: u16, four: bool) {
            let ip: IpAddr = if four {
                Ipv4Addr::new(source[0], source[1], source[2], source[3]).into()
            } else {
                Ipv6Addr::from(source).into()
            };
            let mut rest = match ip {
                IpAddr::V4(ip) => [ip.octets(), [0; 4]].concat(),
                IpAddr::V6(ip) => [ip.octets(), [0; 16]].concat(),
            };
            rest.extend(port.to_be_bytes());
            rest.extend([0, 0]);
            let family = if four { 0x11 } else { 0x21 };
            let bytes = header(0x21, family, &rest);
            let head = head(bytes.first_chunk().unwrap()).unwrap();
            prop_assert_eq!(head.rest, rest.len());
            prop_assert_eq!(address(head, &rest).unwrap(), Some(SocketAddr::new(ip, port)));
        }
    }
}
