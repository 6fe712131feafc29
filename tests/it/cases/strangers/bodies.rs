//! The memory for bodies whose senders have proved nothing.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    attack::{answer_to, connected, raise_limit},
    many::{memory, now, sender, slow_body, tls, world_with_signed_hook},
};
use crate::support::{
    PATIENCE,
    daemon::Daemon,
    eventually, timed,
    world::{World, event},
};

/// The key of the signed hook.
const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A genuine request to the signed hook, as large as a body may be.
async fn signed(world: &World, id: &str) -> (StatusCode, Duration) {
    let padding = " ".repeat(60_000);
    let body = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/s\",\"type\":\"t\"}}{padding}"
    );
    let at = now();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).unwrap());
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    let request = sender(world)
        .post(world.url("/hooks/signed"))
        .header("content-type", "application/cloudevents+json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(tag)));
    let (answer, took) = timed(request.body(body).send()).await;
    (answer.unwrap().status(), took)
}

/// Open connections at the hooks.
async fn connections(daemon: &Daemon) -> u64 {
    let page = daemon.metrics().await;
    let gauge = page.lines().find_map(|line| line.strip_prefix("brevdue_connections "));
    gauge.expect("a gauge").parse().expect("a number")
}

/// The most memory that the daemon ever had, in MiB.
fn peak(daemon: &Daemon) -> u64 {
    memory(daemon, "VmHWM:")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_one_budget_and_the_slow_make_room() {
    let world = world_with_signed_hook().await;
    let limits = "[server]\nmax_body_total = \"256KiB\"\nrequest_timeout = \"10s\"";
    world.edit("[server]", limits);
    let daemon = world.daemon().await;
    // Room for one of these at a time.
    let mut slow = JoinSet::new();
    for _ in 0..20 {
        slow.spawn(answer_to(([127, 0, 0, 2], world.listen), slow_body(), tls(&world)));
    }
    eventually("the slow ones", || async { (connections(&daemon).await >= 20).then_some(()) })
        .await;
    let push = world.push("innboks", event("known by its head"));
    let (answer, took) = timed(push.send()).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert!(took < Duration::from_secs(1), "{took:?}: strangers have no room of its");
    for number in 0..3 {
        let (status, took) = signed(&world, &format!("signed-{number}")).await;
        assert_eq!(status, 200, "a stranger that holds nothing gets room");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let answers = timeout(PATIENCE, slow.join_all()).await.expect("all are answered");
    let busy = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 503 ")).count();
    assert!(busy > 0, "{answers:?}");
    assert!(!answers.iter().any(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    // A second's refusals are one line, which says why the last of them was refused.
    eventually("why the last ones were refused", || async {
        daemon.log().contains("there is no room for its body").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_senders_room_is_not_taken_back_however_slow_it_is() {
    let world = world_with_signed_hook().await;
    world.edit("[server]", "[server]\nmax_body_total = \"256KiB\"");
    let daemon = world.daemon().await;
    let body = event("slow") + &" ".repeat(59_000);
    let head = format!(
        "POST /hooks/innboks?code={} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        world.current_secret("innboks"),
        body.len()
    );
    let (begun, rest) = body.split_at(1000);
    let mut known = connected(([127, 0, 0, 1], world.listen), tls(&world)).await;
    known.write_all((head + begun).as_bytes()).await.unwrap();
    // There is room for one of these, and who waits takes it from who has it.
    let mut slow = JoinSet::new();
    for last in 2..5 {
        slow.spawn(answer_to(([127, 0, 0, last], world.listen), slow_body(), tls(&world)));
    }
    eventually("one that makes room", || async {
        daemon.log().contains("its body was too slow while others waited").then_some(())
    })
    .await;
    known.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end may come without TLS's own farewell.
    timeout(PATIENCE, known.read_to_end(&mut answer)).await.expect("an answer").ok();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(slow);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_behind_a_proxy_take_nothing_from_a_known_sender_behind_it() {
    let world = world_with_signed_hook().await;
    let plain = "[server]\nmax_body_total = \"256KiB\"\ntrusted_proxies = [\"127.0.0.1\"]";
    world.edit("[server]", plain);
    let tls = "tls = { certificate_file = \"tls/fullchain.pem\", key_file = \"tls/privkey.pem\" }";
    world.edit(tls, "tls = \"off\"");
    let daemon = world.daemon().await;
    let through_the_proxy = async |head: String, from: String, begun: String| {
        let mut stream = TcpStream::connect(world.listen).await.unwrap();
        let line = format!(" HTTP/1.1\r\nx-forwarded-for: {from}\r\n");
        let head = head.replacen(" HTTP/1.1\r\n", &line, 1);
        stream.write_all((head + &begun).as_bytes()).await.unwrap();
        stream
    };
    let body = event("slow") + &" ".repeat(59_000);
    let head = format!(
        "POST /hooks/innboks?code={} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        world.current_secret("innboks"),
        body.len()
    );
    let (begun, rest) = body.split_at(1000);
    let mut known = through_the_proxy(head, "10.0.0.9".into(), begun.into()).await;
    let mut strangers = Vec::new();
    for last in 1..=12 {
        let from = format!("10.0.1.{last}");
        strangers.push(through_the_proxy(slow_body(), from, String::new()).await);
    }
    eventually("one that makes room", || async {
        daemon.log().contains("its body was too slow while others waited").then_some(())
    })
    .await;
    known.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, known.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(strangers);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_small_whatever_strangers_announce() {
    raise_limit();
    let world = world_with_signed_hook().await;
    world.edit("[server]", "[server]\nmax_body = \"1MiB\"\nrequest_timeout = \"10s\"");
    let daemon = world.daemon().await;
    let before = peak(&daemon);
    // Each sends all of its MiB but the last byte, so that what is read stays in memory.
    let head = slow_body().replace("content-length: 60000", "content-length: 1048576");
    let most = head.clone() + &" ".repeat(1_048_576 - 100);
    let mut large = JoinSet::new();
    for number in 0..200 {
        let from = [127, 0, 0, 2 + u8::try_from(number % 50).unwrap()];
        large.spawn(answer_to((from, world.listen), most.clone(), tls(&world)));
    }
    for number in 0..3 {
        let (status, took) = signed(&world, &format!("signed-{number}")).await;
        assert_eq!(status, 200);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    // Each has had its whole time to be read.
    let answers = timeout(PATIENCE, large.join_all()).await.expect("all are let go");
    assert!(!answers.iter().any(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    let after = peak(&daemon);
    assert!(after < before + 100, "{before} MiB before, {after} MiB with 200 MiB announced");
    assert!(daemon.stop().await.success());
}
