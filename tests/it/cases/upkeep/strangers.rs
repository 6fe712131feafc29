//! An HTTP client and an HTTP server that share no code with ours: what both of ours would get wrong
//! alike shows here.

use std::{collections::HashMap, time::Duration};

use crate::support::{
    eventually,
    world::{QUICK_RETRY, World, event},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the other server saw of one request.
#[derive(Debug)]
struct Seen {
    method: String,
    target: String,
    headers: HashMap<String, String>,
    body: String,
}

fn next(server: &tiny_http::Server, status: u16) -> Seen {
    let mut request = server.recv_timeout(PATIENCE).unwrap().expect("a request");
    let mut body = String::new();
    request.as_reader().read_to_string(&mut body).unwrap();
    let header = |header: &tiny_http::Header| {
        (header.field.as_str().as_str().to_ascii_lowercase(), header.value.as_str().to_owned())
    };
    let seen = Seen {
        method: request.method().to_string(),
        target: request.url().to_owned(),
        headers: request.headers().iter().map(header).collect(),
        body,
    };
    request.respond(tiny_http::Response::empty(status)).unwrap();
    seen
}

fn push(url: &str, body: &str) -> minreq::Response {
    let request = minreq::post(url).with_header("Content-Type", "application/json; charset=utf-8");
    request.with_body(body).with_timeout(PATIENCE.as_secs()).send().unwrap()
}

fn header<'a>(answer: &'a minreq::Response, name: &str) -> &'a str {
    let found = answer.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str()).expect(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_is_answered_and_another_server_gets_what_it_sent() {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let world = World::with(|_| {}, QUICK_RETRY, "").await;
    let target = format!("http://{}/events?from=brevdue", server.server_addr());
    world.edit(&world.receiver.url(), &target);
    let tls = "tls = { certificate_file = \"tls/fullchain.pem\", key_file = \"tls/privkey.pem\" }";
    world.edit(tls, "tls = \"off\"\ntrusted_proxies = [\"127.0.0.1\"]");
    let daemon = world.daemon().await;
    let secret = world.current_secret("innboks");
    let base = format!("http://{}/hooks/innboks", world.listen);
    let hook = format!("{base}?code={secret}");

    for id in ["one", "two", "one"] {
        let answer = push(&hook, &event(id));
        assert_eq!((answer.status_code, answer.as_bytes()), (200, &b""[..]));
        assert_eq!(header(&answer, "content-length"), "0");
        assert!(httpdate::parse_http_date(header(&answer, "date")).is_ok());
    }
    for (url, status) in [(format!("{base}?code=wrong"), 401), (base.clone(), 401)] {
        assert_eq!(push(&url, &event("three")).status_code, status);
    }
    let got = minreq::get(&hook).with_timeout(PATIENCE.as_secs()).send().unwrap();
    assert_eq!(got.status_code, 405);
    assert!(header(&got, "allow").contains("POST"));

    // Each comes once, the first of them twice, since it is not taken at first.
    let seen = [next(&server, 500), next(&server, 200), next(&server, 200)];
    for one in &seen {
        assert_eq!((one.method.as_str(), one.target.as_str()), ("POST", "/events?from=brevdue"));
        assert_eq!(one.headers["content-length"], one.body.len().to_string());
        assert_eq!(one.headers["content-type"], "application/cloudevents+json; charset=utf-8");
        assert_eq!(one.headers["host"], server.server_addr().to_string());
    }
    let keys = |attempt: &str| {
        let of = seen.iter().filter(|one| one.headers["brevdue-attempt"] == attempt);
        of.map(|one| one.headers["idempotency-key"].clone()).collect::<Vec<_>>()
    };
    let (first, second) = (keys("1"), keys("2"));
    assert_eq!((first.len(), second.len()), (2, 1), "{seen:?}");
    assert!(first.contains(&second[0]) && first[0] != first[1]);
    let bodies: Vec<_> = seen.iter().map(|one| one.body.as_str()).collect();
    assert!(bodies.contains(&event("one").as_str()) && bodies.contains(&event("two").as_str()));
    world.settled().await;
    assert!(server.try_recv().unwrap().is_none(), "and no more");
    eventually("all of it counted", async || {
        let page = daemon.metrics().await;
        page.contains("outcome=\"delivered\"} 2").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
}
