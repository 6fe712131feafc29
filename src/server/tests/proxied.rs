//! Connections that begin with a PROXY header.

use super::*;

/// Tells who asks.
struct Who;

impl Service for Who {
    async fn answer(&self, _: Request<RequestBody>, peer: Peer) -> Answer {
        answer::text(StatusCode::OK, "text/plain", format!("peer={:?}", peer.address))
    }
}

struct Proxied {
    address: SocketAddr,
    gauges: Gauges,
    _tasks: JoinSet<io::Result<()>>,
}

async fn start(from: &str, handshake_timeout: Duration) -> Proxied {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door {
        share: NonZeroUsize::new(4).unwrap(),
        unproven: Unproven::within(PATIENCE),
        proxies: vec![from.parse().unwrap()],
        proxy_protocol: true,
        allows: None,
    };
    let address = listener.local_addr().unwrap();
    let gauges = Gauges::default();
    let server = Server {
        sockets: vec![Socket::Public { listener, door: Arc::new(door) }],
        tls: None,
        limits: Limits {
            max_connections: NonZeroUsize::new(16).unwrap(),
            handshake_timeout,
            request_timeout: PATIENCE,
        },
        service: Arc::new(Who),
        gauges: gauges.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(CancellationToken::new()));
    Proxied { address, gauges, _tasks: tasks }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn header(tail: &[u8]) -> Vec<u8> {
    [SIGNATURE, tail].concat()
}

fn four() -> Vec<u8> {
    header(&[0x21, 0x11, 0, 12, 198, 51, 100, 7, 127, 0, 0, 1, 0x12, 0x67, 0x20, 0xfb])
}

impl Proxied {
    /// Everything that comes back until the connection ends.
    async fn raw(&self, parts: &[&[u8]]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        for part in parts {
            // The other end may have closed before all of it was sent.
            if stream.write_all(part).await.is_err() {
                break;
            }
        }
        let mut all = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it is let go");
        // A reset is an end, too.
        assert!(read.is_ok() || all.is_empty());
        String::from_utf8(all).unwrap()
    }
}

#[tokio::test]
async fn the_peer_is_whom_the_proxy_names() {
    let running = start("127.0.0.0/8", PATIENCE).await;
    let answer = running.raw(&[&four(), REQUEST]).await;
    assert!(answer.ends_with("peer=Some(198.51.100.7:4711)"), "{answer}");
    // In pieces, as a net may deliver it.
    let whole = [&four()[..], REQUEST].concat();
    let (one, rest) = whole.split_at(7);
    let (two, three) = rest.split_at(12);
    let answer = running.raw(&[one, two, three]).await;
    assert!(answer.ends_with("peer=Some(198.51.100.7:4711)"), "{answer}");
    // A health check of the proxy itself.
    let answer = running.raw(&[&header(&[0x20, 0, 0, 0]), REQUEST]).await;
    assert!(answer.contains("peer=Some(127.0.0.1:"), "{answer}");
    assert_eq!(running.gauges.failed.get(), 0);
}

#[tokio::test]
async fn a_connection_without_a_good_header_is_closed_without_a_word() {
    let running = start("127.0.0.0/8", PATIENCE).await;
    let bad: [Vec<u8>; 4] = [
        REQUEST.to_vec(),
        header(&[0x21, 0x12, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        header(&[0x21, 0x11, 0, 4, 1, 2, 3, 4]),
        header(&[0x21, 0x11, 0xff, 0xff]),
    ];
    for bytes in &bad {
        assert_eq!(running.raw(&[bytes, REQUEST]).await, "", "{bytes:?}");
    }
    assert_eq!(running.gauges.failed.get(), 4);
}

#[tokio::test]
async fn a_stranger_cannot_say_who_it_is() {
    let running = start("10.0.0.0/8", PATIENCE).await;
    assert_eq!(running.raw(&[&four(), REQUEST]).await, "");
    assert_eq!(running.gauges.failed.get(), 1);
}

#[tokio::test]
async fn a_proxy_that_stops_in_its_header_is_let_go() {
    let running = start("127.0.0.0/8", Duration::from_millis(200)).await;
    for begun in [&b""[..], SIGNATURE, &four()[..20]] {
        assert_eq!(running.raw(&[begun]).await, "");
    }
    assert_eq!(running.gauges.failed.get(), 3);
}

#[tokio::test]
async fn whom_a_proxy_names_has_a_share_and_displaces_nobody_else() {
    let running = start("127.0.0.0/8", PATIENCE).await;
    let connect = async |last: u8| {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let mut named = four();
        named[19] = last;
        stream.write_all(&named).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let read = stream.read(&mut [0; 1024]).await.unwrap();
        assert!(read > 0, "it is served");
        stream
    };
    let mut other = connect(8).await;
    let mut first = connect(7).await;
    let mut rest = Vec::new();
    for _ in 0..4 {
        rest.push(connect(7).await);
    }
    let ended = timeout(PATIENCE, first.read(&mut [0; 64])).await.expect("it is let go");
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(running.gauges.turned_away.share.get(), 1);
    other.write_all(REQUEST).await.unwrap();
    assert!(other.read(&mut [0; 1024]).await.unwrap() > 0, "the other one is still there");
}
