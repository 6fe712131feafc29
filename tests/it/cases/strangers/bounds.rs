//! What one connection may do until it has proved something.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{attack::connected, many::tls};
use crate::support::{
    PATIENCE,
    daemon::Daemon,
    world::{World, event},
};

/// Refusals after which a connection ends that has proved nothing.
const REFUSALS: usize = 100;

type Connection = TlsStream<TcpStream>;

async fn connection(world: &World) -> Connection {
    connected(([127, 0, 0, 2], world.listen), tls(world)).await
}

/// The head of the answer to a request; nothing if the connection has ended. No answer here has a body.
async fn ask(stream: &mut Connection, request: &str) -> String {
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, stream.read_u8()).await.expect("an answer or an end") {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

const NOTHING: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn push(world: &World) -> String {
    let (code, body) = (world.current_secret("innboks"), event("a proof"));
    format!(
        "POST /hooks/innboks?code={code} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn turned_away(daemon: &Daemon, reason: &str) -> u64 {
    let page = daemon.metrics().await;
    let counter = format!("brevdue_connections_turned_away_total{{reason=\"{reason}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&counter));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_refused_again_and_again_ends_unless_it_was_accepted_once() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let mut stranger = connection(&world).await;
    for number in 1..=REFUSALS {
        let answer = ask(&mut stranger, NOTHING).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{number}: {answer}");
        let ends = answer.contains("connection: close");
        assert_eq!(ends, number == REFUSALS, "{number}: {answer}");
    }
    assert_eq!(ask(&mut stranger, NOTHING).await, "");
    assert_eq!(turned_away(&daemon, "refusals").await, 1);
    let mut known = connection(&world).await;
    assert!(ask(&mut known, &push(&world)).await.starts_with("HTTP/1.1 200 "));
    for number in 0..2 * REFUSALS {
        let answer = ask(&mut known, NOTHING).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{number}: {answer}");
    }
    assert_eq!(turned_away(&daemon, "refusals").await, 1);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_proves_nothing_ends_at_its_age_however_busy_it_is() {
    let world = World::new().await;
    // The age is the first and twice the second.
    world.edit("[server]", "[server]\nhandshake_timeout = \"1s\"\nrequest_timeout = \"2s\"");
    let daemon = world.daemon().await;
    let mut known = connection(&world).await;
    assert!(ask(&mut known, &push(&world)).await.starts_with("HTTP/1.1 200 "));
    let mut stranger = connection(&world).await;
    // So slow that its refusals are not what ends it.
    let mut tick = interval(Duration::from_millis(100));
    for asked in 0.. {
        tick.tick().await;
        assert!(!ask(&mut known, NOTHING).await.is_empty(), "it has proved itself");
        if ask(&mut stranger, NOTHING).await.is_empty() {
            break;
        }
        assert!(asked < REFUSALS, "it lives on");
    }
    assert_eq!(turned_away(&daemon, "age").await, 1);
    assert!(!ask(&mut known, NOTHING).await.is_empty(), "it has proved itself");
    assert!(daemon.stop().await.success());
}
