//! PROXY headers of every shape, through a proxy that is trusted: what is none ends its connection
//! in time.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::many::tls;
use crate::{
    cases::callers::proxy_header,
    support::{
        PATIENCE, timed,
        world::{World, event},
    },
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn header(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &length.to_be_bytes(), rest].concat()
}

/// The status of a push behind these bytes, which are sent in pieces of this size; 0 if the
/// connection was closed before an answer.
async fn push(world: &World, begin: &[u8], pieces: usize) -> u16 {
    let mut stream = TcpStream::connect(world.listen).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in begin.chunks(pieces) {
        if stream.write_all(piece).await.is_err() {
            return 0;
        }
    }
    let name = "localhost".try_into().unwrap();
    let Ok(mut stream) = TlsConnector::from(tls(world)).connect(name, stream).await else {
        return 0;
    };
    let (code, body) = (world.current_secret("innboks"), event("1"));
    let request = format!(
        "POST /hooks/innboks?code={code} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_header_is_read_or_refused_in_time() {
    let world = World::new().await;
    let lines = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
                 handshake_timeout = \"3s\"";
    world.edit("[server]", lines);
    let daemon = world.daemon().await;
    let good = proxy_header([51, 13, 20, 208]);
    let four: Vec<u8> = good[16..28].to_vec();
    let with = |count: u16| [&four[..], &vec![0_u8; usize::from(count)]].concat();
    let version_1 = b"PROXY TCP4 51.13.20.208 127.0.0.1 4711 8443\r\n".to_vec();
    for (name, bytes, pieces, expected) in [
        ("byte by byte", good.clone(), 1, 200),
        ("in pieces", good.clone(), 15, 200),
        ("LOCAL", header(0x20, 0, 0, &[]), 100, 200),
        ("LOCAL with addresses", header(0x20, 0x11, 12, &four), 100, 200),
        ("LOCAL with TLVs", header(0x20, 0, 3000, &[0; 3000]), 7, 200),
        ("UNSPEC", header(0x21, 0, 0, &[]), 100, 200),
        ("UNSPEC with more", header(0x21, 0, 9, &[7; 9]), 1, 200),
        ("TLVs", header(0x21, 0x11, 2012, &with(2000)), 100, 200),
        ("TLVs of 64 KiB", header(0x21, 0x11, u16::MAX, &with(65_523)), 60_000, 0),
        ("LOCAL with 64 KiB", header(0x20, 0, u16::MAX, &with(65_523)), 60_000, 0),
        ("unix", header(0x21, 0x31, 216, &[0; 216]), 1000, 0),
        ("UDP", header(0x21, 0x12, 12, &four), 100, 0),
        ("another version", header(0x31, 0x11, 12, &four), 100, 0),
        ("too short", header(0x21, 0x11, 4, &four[..4]), 100, 0),
        ("IPv6 in the length of IPv4", header(0x21, 0x21, 12, &four), 100, 0),
        ("longer than it is", header(0x21, 0x11, 4000, &four), 100, 0),
        ("version 1", version_1.clone(), 100, 0),
        ("version 1 byte by byte", version_1, 1, 0),
        ("two headers", [&good[..], &good].concat(), 100, 0),
        ("no header", Vec::new(), 1, 0),
    ] {
        let (status, took) = timed(timeout(PATIENCE, push(&world, &bytes, pieces))).await;
        assert_eq!(status.expect("an end"), expected, "{name}");
        assert!(took < Duration::from_secs(8), "{name}: {took:?}");
    }
    // Nothing, a part of a header, and nothing behind one: the time for the handshake is all they have.
    for begin in [&b""[..], &good[..9], &good[..20], &good] {
        let ended = async {
            let mut stream = TcpStream::connect(world.listen).await.unwrap();
            stream.write_all(begin).await.unwrap();
            while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        };
        let (ended, took) = timed(timeout(PATIENCE, ended)).await;
        assert!(ended.is_ok() && took < Duration::from_secs(8), "{begin:?}: {took:?}");
    }
    assert_eq!(push(&world, &good, 100).await, 200);
    assert!(daemon.stop().await.success());
}
