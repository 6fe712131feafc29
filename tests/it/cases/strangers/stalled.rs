//! Bodies that stall, by senders that have the right secret.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    attack::raise_limit,
    many::{sender, tls},
};
use crate::support::{
    PATIENCE, timed,
    world::{World, event},
};

const WITHIN: Duration = Duration::from_secs(1);

/// A request with the right secret that ends in the middle of its body.
async fn stall(world: &World, last: u8) -> TlsStream<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    let stream = socket.connect(world.listen).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(tls(world)).connect(name, stream).await.unwrap();
    let head = format!(
        "POST /hooks/innboks?code={} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: 65536\r\n\r\n{{\"specversion\":",
        world.current_secret("innboks")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn push(world: &World, id: &str) -> Duration {
    let request = sender(world).post(world.hook("innboks"));
    let request = request.header("content-type", "application/json").body(event(id));
    let (answer, took) = timed(request.send()).await;
    assert_eq!(answer.unwrap().status(), 200, "{id} after {took:?}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stall_hold_no_room_that_others_wait_for() {
    raise_limit();
    let world = World::new().await;
    // Room for twelve of them, of the known senders' three quarters.
    world.edit("[server]", "[server]\nmax_body_total = \"1MiB\"");
    let daemon = world.daemon().await;
    let calm = push(&world, "calm").await;
    let making = Semaphore::new(16);
    let mut stalled = Vec::new();
    for number in 0..40_u8 {
        let _making = making.acquire().await.unwrap();
        stalled.push(stall(&world, 2 + number % 4).await);
    }
    for number in 0..3 {
        let took = push(&world, &format!("behind-{number}")).await;
        assert!(took < WITHIN + calm * 3, "{took:?} behind stalled bodies, {calm:?} without");
    }
    // Those who had to make room, or stalled too long, are told so.
    let mut answers = JoinSet::new();
    for mut stream in stalled {
        answers.spawn(async move {
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
            String::from_utf8_lossy(&answer).into_owned()
        });
    }
    let answers = answers.join_all().await;
    let told = |status: &str| answers.iter().filter(|answer| answer.contains(status)).count();
    assert!(told(" 503 ") > 0, "{answers:?}");
    assert_eq!(told(" 503 ") + told(" 408 "), answers.len(), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.contains("connection: close")), "{answers:?}");
    assert!(daemon.stop().await.success());
}
