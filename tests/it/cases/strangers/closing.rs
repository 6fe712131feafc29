//! Refused requests whose body comes later, or never: the answer says whether the connection goes on.
//!
//! The client is the bytes themselves, so that nothing in it makes up for a missing header.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::many::tls;
use crate::support::{
    PATIENCE,
    world::{World, event},
};

type Connection = TlsStream<TcpStream>;

async fn connect(world: &World) -> Connection {
    let stream = TcpStream::connect(world.listen).await.unwrap();
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(tls(world)).connect(name, stream).await.unwrap()
}

/// The head of the answer to these bytes, in small letters. None of ours has a body.
async fn ask(connection: &mut Connection, bytes: &[u8]) -> String {
    // The answer may come before all was sent.
    connection.write_all(bytes).await.ok();
    connection.flush().await.ok();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) => panic!("{error} behind {:?}", String::from_utf8_lossy(&head)),
            }
        }
    };
    timeout(PATIENCE, read).await.expect("an answer");
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

async fn ends(connection: &mut Connection) {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, connection.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(end.is_err() || rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
}

/// Requests that are refused by their heads, without what says how long the body is, and the status.
fn refused(world: &World) -> Vec<(String, &'static str)> {
    let json = "content-type: application/json\r\n";
    let code = world.current_secret("innboks");
    let good = format!("/hooks/innboks?code={code}");
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{more}")
    };
    vec![
        (head("POST", "/hooks/innboks?code=wrong", json), "401"),
        (head("POST", "/hooks/innboks", json), "401"),
        (head("POST", "/hooks/nobody", json), "404"),
        (head("POST", "/", json), "404"),
        (head("PUT", &good, json), "405"),
        (head("POST", &good, "content-type: text/plain\r\n"), "415"),
        (format!("POST {good} HTTP/1.1\r\n{json}"), "400"),
        (head("POST", "/hooks/wrong?code=x", "host: localhost\r\n"), "400"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_says_that_the_connection_ends() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let lengths = [
        "content-length: 60000\r\n\r\n",
        "content-length: 60000\r\n\r\n{\"specversion\":",
        "content-length: 9000000\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n",
        "expect: 100-continue\r\ncontent-length: 10\r\n\r\n",
    ];
    for (head, status) in refused(&world) {
        for length in lengths {
            let mut connection = connect(&world).await;
            let answer = ask(&mut connection, format!("{head}{length}").as_bytes()).await;
            // Not a body is asked for that is refused.
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{head}{length}: {answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{head}{length}: {answer}");
            // Behind the others the head is all.
            if status != "400" {
                ends(&mut connection).await;
            }
        }
    }
    // Too large, by its head or by what came.
    let code = world.current_secret("innboks");
    let head = format!(
        "POST /hooks/innboks?code={code} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\n"
    );
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n20000\r\n{}", " ".repeat(0x20000));
    for request in [format!("{head}content-length: 70000\r\n\r\n"), chunk] {
        let mut connection = connect(&world).await;
        let answer = ask(&mut connection, request.as_bytes()).await;
        assert!(answer.starts_with("http/1.1 413 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        ends(&mut connection).await;
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_body_that_has_come_the_connection_goes_on() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let mut connection = connect(&world).await;
    let good = format!(
        "POST /hooks/innboks?code={} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n",
        world.current_secret("innboks")
    );
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned();
    let large = format!("content-length: 60000\r\n\r\n{}", " ".repeat(60_000));
    let (mut number, before) = (0, event("before").len());
    for (head, status) in refused(&world).into_iter().take(6) {
        for rest in ["content-length: 0\r\n\r\n", "content-length: 2\r\n\r\n{}", &chunked, &large] {
            let answer = ask(&mut connection, format!("{head}{rest}").as_bytes()).await;
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{head}: {answer}");
            assert!(!answer.contains("connection: close"), "{head}: {answer}");
            number += 1;
            let body = event(&format!("{number:06}"));
            assert_eq!(body.len(), before);
            let push = format!("{good}content-length: {before}\r\n\r\n{body}");
            let answer = ask(&mut connection, push.as_bytes()).await;
            assert!(answer.starts_with("http/1.1 200 "), "{answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
        }
    }
    world.receiver.wait_for(number).await;
    // Who wants no other answer is told that there will be none.
    let last = format!("{good}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
    let answer = ask(&mut connection, last.as_bytes()).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    ends(&mut connection).await;
    assert!(daemon.stop().await.success());
}
