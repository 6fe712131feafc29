//! The admin API over TCP, as strangers on the machine and pages in its browsers would ask it.

use std::{fs, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    PATIENCE, timed,
    world::{World, free_port},
};

const TOKEN: &str = "a-token-of-the-admin-api-0123456789";

/// The status line's number; 0 where the connection is closed without an answer.
async fn status(to: SocketAddr, request: &[u8]) -> u16 {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        // What is not read any more cannot be sent.
        drop(stream.write_all(request).await);
        let mut answer = vec![0; 12];
        let read = stream.read_exact(&mut answer).await;
        read.map_or(0, |_| String::from_utf8_lossy(&answer[9..]).parse().unwrap())
    };
    timeout(PATIENCE, exchange).await.expect("it is answered")
}

fn request(head: &str, headers: &str) -> Vec<u8> {
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    format!("{head} HTTP/1.1\r\n{host}{headers}\r\n").into_bytes()
}

async fn with_tcp() -> (World, SocketAddr, fs::File) {
    let world = World::new().await;
    let (listen, lock) = free_port();
    let token = world.folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let tcp = format!("socket = \"admin.sock\"\nlisten = \"{listen}\"\ntoken_file = \"token\"\n");
    world.edit("socket = \"admin.sock\"\n", &tcp);
    (world, listen, lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_answered_and_none_goes_around_the_token() {
    let (world, tcp, _lock) = with_tcp().await;
    let daemon = world.daemon().await;
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for (head, headers, expected) in [
        ("GET /v1/status", token.as_str(), 200),
        ("GET /livez", "", 200),
        ("GET /livez", "Host: 127.0.0.1:1\r\n", 200),
        ("GET /livez", "Host: evil.example\r\n", 421),
        ("GET /metrics", "Host: localhost.evil.example\r\n", 421),
        ("GET http://evil.example/metrics", "Host: evil.example\r\n", 421),
        ("GET /v1/status", &format!("Host: evil.example\r\n{token}"), 421),
        ("GET /v1/status", "", 401),
        ("GET //v1/status", "", 401),
        ("GET /%76%31/status", "", 401),
        ("GET /livez/../v1/status", "", 404),
        ("GET /livez/%2e%2e/v1/status", "", 404),
        ("GET /v1%2fstatus", "", 404),
        ("POST /v1/handlers/%00/pause", &token, 404),
        ("POST /v1/handlers/..%2f..%2fmetrics/pause", &token, 404),
        ("DELETE /v1/handlers/%ff", &token, 404),
        ("PUT /v1/status", &token, 405),
        ("TRACE /livez", "", 405),
        ("GET /v1/status", &format!("{token}Authorization: Bearer x\r\n"), 401),
        ("GET /v1/status", &format!("Authorization: Basic {TOKEN}\r\n"), 401),
        ("GET /v1/status", &format!("Authorization: Bearer {}\r\n", TOKEN.repeat(300)), 401),
        ("GET /v1/status", &format!("Authorization: Bearer {}\r\n", &TOKEN[1..]), 401),
        (&format!("GET /v1/status?token={TOKEN}"), "", 401),
        (&format!("GET /{}", "a".repeat(70_000)), "", 431),
        ("POST /v1/handlers/arkiv/resume", "Content-Length: 1000000000000\r\n", 401),
    ] {
        let answered = status(tcp, &request(head, headers)).await;
        assert_eq!(answered, expected, "{} {headers:?}", head.get(..60).unwrap_or(head));
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_take_every_connection_do_not_shut_an_operator_out() {
    let (world, tcp, _lock) = with_tcp().await;
    let daemon = world.daemon().await;
    let mut held = Vec::new();
    for n in 0..300_u16 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let from = [127, 0, 2, u8::try_from(1 + n % 50).unwrap()];
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let Ok(Ok(mut stream)) = timeout(Duration::from_secs(5), socket.connect(tcp)).await else {
            continue;
        };
        if n % 3 > 0 {
            drop(stream.write_all(b"POST /v1/status HTTP/1.1\r\nHost: localhost\r\nX: ").await);
        }
        held.push(stream);
    }
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let (answered, took) = timed(status(tcp, &request("GET /v1/status", &token))).await;
    assert_eq!(answered, 200);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(daemon.command(&["status"]).status.success(), "the socket is another door");
    drop(held);
    assert!(daemon.stop().await.success());
}
