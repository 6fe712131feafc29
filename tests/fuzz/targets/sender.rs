//! Who sends, and how they prove it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use brevdue::{
    clock::{Clock, Timestamp},
    ingress::peer,
    network::{self, Network},
    secret::SecretFile,
    server::{Peer, proxy},
    source::{
        Refusal, Source,
        cloudevents::{Auth, CloudEvents},
        secrets::HookSecrets,
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, request::Parts};

/// The beginning of a connection behind a proxy. Accepted if it has a whole header.
pub(crate) fn proxy(input: &[u8]) -> bool {
    let Some((fixed, rest)) = input.split_first_chunk() else { return false };
    let Ok(head) = proxy::head(fixed) else { return false };
    assert!(head.rest <= proxy::MAX_REST, "a header of any length");
    let Some(rest) = rest.get(..head.rest) else { return false };
    let Ok(told) = proxy::address(head, rest) else { return false };
    if let Some(address) = told {
        let (family, source, port): (_, &[u8], _) = match address.ip() {
            IpAddr::V4(ip) => (0x11, &ip.octets(), 8),
            IpAddr::V6(ip) => (0x21, &ip.octets(), 32),
        };
        assert_eq!(fixed[12..14], [0x21, family], "of another family");
        assert!(rest.starts_with(source), "another address");
        assert!(rest[port..].starts_with(&address.port().to_be_bytes()), "another port");
    }
    true
}

/// Lines of `X-Forwarded-For`, from a trusted proxy. Accepted if they name someone behind it.
pub(crate) fn forwarded(input: &[u8]) -> bool {
    let trusted: Vec<Network> =
        ["10.0.0.0/8", "::1"].iter().filter_map(|text| text.parse().ok()).collect();
    let nearest = SocketAddr::from(([10, 0, 0, 1], 1));
    let told = |lines: &mut dyn Iterator<Item = &[u8]>| {
        let values = lines.filter_map(|line| HeaderValue::from_bytes(line).ok());
        let head: HeaderMap =
            values.map(|value| (http::HeaderName::from_static("x-forwarded-for"), value)).collect();
        peer::address(Peer { address: Some(nearest) }, &head, &trusted)
    };
    let lines = || input.split(|byte| *byte == b'\n');
    let sender = told(&mut lines());
    let claimed = told(&mut std::iter::once(&b"203.0.113.9"[..]).chain(lines()));
    let Some(address) = sender else { panic!("nobody, though someone is connected") };
    assert_eq!(address, address.to_canonical(), "IPv4 written as IPv6");
    if !network::any_contains(&trusted, address) {
        assert_eq!(claimed, sender, "a sender's claim about itself is believed");
    }
    address != nearest.ip()
}

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp::from_millis(1_614_265_330_000);

static SIGNED: LazyLock<CloudEvents> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), format!("whsec_{KEY}")).expect("a file");
    let file = SecretFile::resolve("key", folder.path()).expect("its path");
    let keys = HookSecrets::signing(&file).expect("a key");
    let (tolerance, clock) = (Duration::from_secs(300), Clock::manual(NOW));
    let auth = Auth::StandardWebhooks { keys, tolerance, clock };
    CloudEvents { name: "other".parse().expect("a name"), auth, allowed_origins: Vec::new() }
});

/// Lines with the id, the timestamp and the signatures of a webhook, and its body. Accepted if it
/// is let in.
pub(crate) fn signature(input: &[u8]) -> bool {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (id, timestamp, signatures, body) = (line(), line(), line(), line());
    let message = [id, b".", timestamp, b".", body].concat();
    let key = BASE64_STANDARD.decode(KEY).expect("base64");
    let right = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    let right = BASE64_STANDARD.encode(right);

    let accepted = admitted(id, timestamp, signatures, body);
    let there = signatures.windows(right.len()).any(|part| part == right.as_bytes());
    assert!(there || !accepted, "let in without the signature");

    let signed = [b"v1,", right.as_bytes(), b" ", signatures].concat();
    if head(id, timestamp, &signed).is_some_and(|head| SIGNED.check(&head).is_ok()) {
        assert!(admitted(id, timestamp, &signed, body), "not let in with the signature");
        let longer = [body, b" "].concat();
        assert!(!admitted(id, timestamp, &signed, &longer), "let in with another body");
    }
    accepted
}

fn admitted(id: &[u8], timestamp: &[u8], signatures: &[u8], body: &[u8]) -> bool {
    head(id, timestamp, signatures).is_some_and(|head| {
        let admission = SIGNED.admit(&head, Bytes::copy_from_slice(body));
        SIGNED.check(&head).is_ok() && admission != Err(Refusal::Unauthenticated)
    })
}

fn head(id: &[u8], timestamp: &[u8], signatures: &[u8]) -> Option<Parts> {
    let request = Request::post("/hooks/other")
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures);
    Some(request.body(()).ok()?.into_parts().0)
}
