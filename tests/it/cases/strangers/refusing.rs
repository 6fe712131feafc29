//! What is refused at the edge, and how little of it the log has.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UnixStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    cases::callers::proxy_header,
    support::{
        PATIENCE, eventually,
        world::{World, event},
    },
};

async fn raw(world: &World, request: &str) -> String {
    let mut stream = UnixStream::connect(world.folder.path().join("admin.sock")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_every_kind_are_answered_and_a_host_is_needed_once() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    for (head, status, header) in [
        ("GET /livez HTTP/1.1\r\nhost: x", "200", "content-length: 3"),
        ("HEAD /livez HTTP/1.1\r\nhost: x", "200", "content-length: 3"),
        ("HEAD /readyz HTTP/1.1\r\nhost: x", "200", "content-length: 6"),
        ("HEAD /metrics HTTP/1.1\r\nhost: x", "200", "openmetrics-text"),
        ("OPTIONS /livez HTTP/1.1\r\nhost: x", "204", "allow: GET, HEAD, OPTIONS"),
        ("OPTIONS /readyz HTTP/1.1\r\nhost: x", "204", "allow: GET, HEAD, OPTIONS"),
        ("OPTIONS /metrics HTTP/1.1\r\nhost: x", "204", "allow: GET, HEAD, OPTIONS"),
        ("POST /metrics HTTP/1.1\r\nhost: x", "405", "allow: GET, HEAD, OPTIONS"),
        ("GET /livez HTTP/1.1", "400", "content-length"),
        ("GET /livez HTTP/1.1\r\nhost: x\r\nhost: x", "400", "content-length"),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nhost: b", "400", "content-length"),
        ("GET /livez HTTP/1.0", "200", "content-length: 3"),
    ] {
        let answer = raw(&world, &format!("{head}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.split(' ').nth(1) == Some(status), "{head}: {answer}");
        assert!(answer.contains(header), "{head}: {answer}");
        let has_body = !answer.ends_with("\r\n\r\n");
        assert!(!(head.starts_with("HEAD") && has_body), "{head}: {answer}");
    }
    assert!(daemon.stop().await.success());
}

/// A client that learns with an answer that its connection ends.
fn over_http1(world: &World) -> reqwest::Client {
    let pem = std::fs::read(world.folder.path().join("ca.pem")).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([ca]).http1_only().build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_refusals_are_a_line_a_second_with_every_one_counted() {
    const SENDERS: usize = 10;
    const EACH: usize = 200;
    let world = World::new().await;
    let daemon = world.daemon().await;
    let began = Instant::now();
    let wrong = world.url("/hooks/innboks?code=wrong-secret-wrong-secret");
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (client, wrong) = (over_http1(&world), wrong.clone());
        senders.spawn(async move {
            for _ in 0..EACH {
                let request = client.post(&wrong).header("content-type", "application/json");
                assert_eq!(request.body("{}").send().await.unwrap().status(), 401);
            }
        });
    }
    senders.join_all().await;
    let media = world.client.post(world.hook("innboks")).header("content-type", "text/plain");
    assert_eq!(media.body(event("x")).send().await.unwrap().status(), 415);
    let seconds = began.elapsed().as_secs() + 2;
    let log = daemon.stopped().await;
    let lines: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("refused a request"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |status: u64| lines.iter().filter(move |line| line["status"] == json!(status));
    let counted: u64 = of(401).map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, u64::try_from(SENDERS * EACH).unwrap());
    let told = u64::try_from(of(401).count()).unwrap();
    assert!(told <= seconds, "{told} lines in {seconds} seconds");
    assert!(of(401).all(|line| line["why"] == "wrong or missing secret"), "{lines:?}");
    let why: Vec<_> = of(415).map(|line| line["why"].clone()).collect();
    assert_eq!(why, [json!("not a CloudEvent's media type")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_may_be_a_persons_are_masked_in_the_log_of_generic_events() {
    const PERSON: &str = "01017012345";
    let world =
        World::with(|_| {}, "", "[sources.other]\nauth = { bearer_file = \"token\" }\n").await;
    std::fs::write(world.folder.path().join("token"), "token-of-the-other-1").unwrap();
    let daemon = world.daemon().await;
    let personal = json!({
        "specversion": "1.0", "id": format!("id-{PERSON}"), "source": format!("/people/{PERSON}"),
        "type": format!("no.person{PERSON}.moved"), "subject": PERSON,
    });
    let post = world.client.post(world.url("/hooks/other")).bearer_auth("token-of-the-other-1");
    let post = post.header("content-type", "application/cloudevents+json");
    assert_eq!(post.body(personal.to_string()).send().await.unwrap().status(), 200);
    let received = world.receiver.wait_for(1).await;
    assert_eq!(received[0].id(), format!("id-{PERSON}"), "the event itself is untouched");
    let page = daemon.metrics().await;
    assert!(!page.contains(PERSON));
    let log = daemon.stopped().await;
    assert!(!log.contains(PERSON), "{log}");
    assert!(log.matches("id-***********").count() >= 2, "stored and delivered: {log}");
}

/// What the log says of connections without a PROXY header, by peer.
fn told_of(log: &str) -> Vec<(String, Value)> {
    let lines = log.lines().filter(|line| line.contains("without a PROXY header"));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["peer"].as_str().unwrap().to_owned(), line)).collect()
}

/// Connects from this address, begins with these bytes, and waits for the end.
async fn closed(world: &World, last: u8, bytes: &[u8]) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    let mut stream = socket.connect(world.listen).await.unwrap();
    // The other end may have closed before all of it was sent.
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    assert_eq!(answer, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_proxied_connection_was_closed_is_told_with_its_cure_once_a_minute_and_peer() {
    let world = World::new().await;
    let lines = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\", \"127.0.0.3\"]";
    world.edit("[server]", lines);
    // Neither the daemon itself nor Altinn calls, so every connection is one of these.
    world.altinn_settings("self_proof = false\n");
    world.tell_altinn("faults", &json!({ "events": "never-validate" })).await;
    let daemon = world.daemon().await;
    let began = Instant::now();
    for _ in 0..5 {
        // A header, from no proxy; none; and one of the text form.
        closed(&world, 9, &proxy_header([51, 13, 20, 208])).await;
        closed(&world, 2, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        closed(&world, 3, b"PROXY TCP4 51.13.20.208 127.0.0.1 1 2\r\n").await;
    }
    // A connection's end is seen here a moment before it is counted.
    let all = "brevdue_connections_turned_away_total{reason=\"no_proxy_header\"} 15";
    eventually("all that were turned away", || async {
        daemon.metrics().await.lines().any(|line| line == all).then_some(())
    })
    .await;
    let told = told_of(&daemon.stopped().await);
    let minutes = usize::try_from(began.elapsed().as_secs() / 60 + 1).unwrap();
    for (peer, cure) in [
        ("127.0.0.9", "add its address to server.trusted_proxies"),
        ("127.0.0.2", "send-proxy-v2; AWS NLB"),
        ("127.0.0.3", "only version 2 is read"),
    ] {
        let lines: Vec<_> = told.iter().filter(|(told, _)| told == peer).collect();
        assert!((1..=minutes).contains(&lines.len()), "{told:?}");
        assert!(lines[0].1["cure"].as_str().unwrap().contains(cure), "{lines:?}");
    }
}
