//! Connections that have proved nothing: what they may do, and when they have to go.

use super::*;

/// Takes every request to `/good` for a proof.
struct Gate;

impl Service for Gate {
    async fn answer(&self, request: Request<RequestBody>, _: Peer) -> Answer {
        match request.uri().path() {
            "/good" => {
                request.extensions().get::<Proof>().unwrap().give();
                answer::empty(StatusCode::OK)
            }
            "/open" => answer::text(StatusCode::OK, "text/plain", "open"),
            _ => answer::empty(StatusCode::NOT_FOUND),
        }
    }
}

struct Strangers {
    address: SocketAddr,
    gauges: Gauges,
    _tasks: JoinSet<io::Result<()>>,
}

fn unproven() -> Unproven {
    Unproven { age: PATIENCE, requests: 5, refusals: 3 }
}

async fn start(
    most: usize,
    share: usize,
    unproven: Unproven,
    allows: Option<AllowFn>,
) -> Strangers {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gauges = Gauges::default();
    let share = NonZeroUsize::new(share).unwrap();
    let door = Door { share, unproven, proxies: vec![], proxy_protocol: false, allows };
    let server = Server {
        sockets: vec![Socket::Public { listener, door: Arc::new(door) }],
        tls: None,
        limits: Limits {
            max_connections: NonZeroUsize::new(most).unwrap(),
            handshake_timeout: PATIENCE,
            request_timeout: PATIENCE,
        },
        service: Arc::new(Gate),
        gauges: gauges.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(CancellationToken::new()));
    Strangers { address, gauges, _tasks: tasks }
}

impl Strangers {
    /// A connection from this loopback address.
    async fn from(&self, last: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }
}

/// The answer to a GET, or nothing if the connection has ended.
async fn get(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut answer = [0; 1024];
    let read = timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer or an end");
    String::from_utf8(answer[..read.unwrap_or(0)].to_vec()).unwrap()
}

async fn ends(stream: &mut TcpStream) {
    let end = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it is let go");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_full_house_takes_a_newcomer_for_the_longest_idle_of_the_heaviest_peer() {
    let running = start(8, 6, unproven(), None).await;
    let mut proven = running.from(9).await;
    assert!(get(&mut proven, "/good").await.contains(" 200 "));
    let mut alone = running.from(8).await;
    assert!(get(&mut alone, "/open").await.contains(" 200 "));
    let mut many = Vec::new();
    for _ in 0..6 {
        let mut one = running.from(2).await;
        assert!(get(&mut one, "/open").await.contains(" 200 "));
        many.push(one);
    }
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        let mut newcomer = running.from(3).await;
        assert!(get(&mut newcomer, "/good").await.contains(" 200 "));
        newcomers.push(newcomer);
        ends(&mut many.remove(0)).await;
    }
    assert_eq!(running.gauges.turned_away.full.get(), 3);
    for stream in [&mut proven, &mut alone, &mut many[2]] {
        assert!(get(stream, "/open").await.contains(" 200 "), "it is still there");
    }
}

#[tokio::test]
async fn a_peer_displaces_itself_at_its_share_and_no_other() {
    let running = start(64, 4, unproven(), None).await;
    let mut other = running.from(3).await;
    assert!(get(&mut other, "/open").await.contains(" 200 "));
    let mut own = Vec::new();
    for _ in 0..50 {
        let mut one = running.from(2).await;
        assert!(get(&mut one, "/open").await.contains(" 200 "), "each is served");
        own.push(one);
    }
    for stream in &mut own[..46] {
        ends(stream).await;
    }
    assert!(get(&mut own[46], "/open").await.contains(" 200 "));
    assert_eq!(running.gauges.turned_away.share.get(), 46);
    assert!(get(&mut other, "/open").await.contains(" 200 "));
}

#[tokio::test]
async fn what_proves_nothing_is_ended_after_its_requests_its_refusals_or_its_age() {
    let running = start(8, 8, unproven(), None).await;
    for (path, most) in [("/open", 5), ("/nothing", 3)] {
        let mut stream = running.from(2).await;
        for number in 1..=most {
            let answer = get(&mut stream, path).await;
            assert_eq!(answer.contains("connection: close"), number == most, "{path} {number}");
        }
        ends(&mut stream).await;
    }
    let mut proven = running.from(2).await;
    assert!(get(&mut proven, "/good").await.contains(" 200 "));
    for _ in 0..20 {
        assert!(get(&mut proven, "/nothing").await.contains(" 404 "));
    }
    let counters = running.gauges.turned_away;
    assert_eq!((counters.requests.get(), counters.refusals.get(), counters.age.get()), (1, 1, 0));

    let age = Duration::from_millis(300);
    let running = start(8, 8, Unproven { age, ..unproven() }, None).await;
    let mut young = running.from(2).await;
    assert!(get(&mut young, "/open").await.contains(" 200 "));
    ends(&mut young).await;
    assert_eq!(running.gauges.turned_away.age.get(), 1);
}

#[tokio::test]
async fn who_is_not_on_the_list_is_closed_before_a_word_and_holds_no_slot() {
    let allows: AllowFn = Arc::new(|address| address.to_string() == "127.0.0.2");
    let running = start(2, 2, unproven(), Some(allows)).await;
    for _ in 0..20 {
        ends(&mut running.from(3).await).await;
    }
    let mut allowed = running.from(2).await;
    assert!(get(&mut allowed, "/open").await.contains(" 200 "));
    let mut itself = running.from(1).await;
    assert!(get(&mut itself, "/open").await.contains(" 200 "), "this machine may ask itself");
    assert_eq!(running.gauges.turned_away.not_allowed.get(), 20);
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_refused_and_head_has_no_body() {
    let running = start(8, 8, unproven(), None).await;
    for (head, status) in [
        ("GET /open HTTP/1.1\r\n", " 400 "),
        ("GET /open HTTP/1.1\r\nhost: a\r\nHost: a\r\n", " 400 "),
        ("GET /open HTTP/1.1\r\nhost: a b\r\n", " 400 "),
        ("GET http://a/open HTTP/1.1\r\n", " 400 "),
        ("GET /open HTTP/1.0\r\n", " 200 "),
        ("HEAD /open HTTP/1.1\r\nhost: a\r\n", " 200 "),
    ] {
        let mut stream = running.from(2).await;
        let request = format!("{head}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains(status), "{head}: {answer}");
        if head.starts_with("HEAD") {
            assert!(
                answer.contains("content-length: 4") && answer.ends_with("\r\n\r\n"),
                "{answer}"
            );
        }
    }
}
