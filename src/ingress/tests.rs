mod endpoint;
mod log;
mod logged;

use std::sync::atomic::Ordering;

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use self::endpoint::{ALTINN, MAX_BODY, PATIENCE, TOKEN, event, start};
use super::*;
use crate::{metrics::HookLabels, queue::QueueError};

const VALIDATION: &str = r#"{"specversion":"1.0","id":"694caa35","source":"https://platform.altinn.no/events/api/v1/subscriptions/1234","type":"platform.events.validatesubscription"}"#;
const GOOD: &str = "/events/hooks/innboks?code=CODE";
const OTHER: &str = "/events/hooks/other";

#[tokio::test]
async fn a_stored_event_and_its_duplicate_are_answered_200_and_empty() {
    let endpoint = start().await;
    for _ in 0..2 {
        let answer = endpoint.push(event("1")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-length"], "0");
        assert_eq!(answer.headers().get("connection"), None);
        assert_eq!(answer.text().await.unwrap(), "");
    }
    assert_eq!(endpoint.log.ids(), ["1"]);
    assert_eq!(endpoint.log.content.lock().unwrap().stored[0].event.json(), event("1").as_bytes());
    assert_eq!(endpoint.stored.load(Ordering::SeqCst), 1);
    let labels = HookLabels { hook: "innboks".to_owned() };
    assert_eq!(endpoint.metrics.stored.get_or_create(&labels).get(), 1);
    assert_eq!(endpoint.metrics.duplicates.get_or_create(&labels).get(), 1);
    let last = endpoint.metrics.last_push_seconds.get_or_create(&labels).get();
    assert!((last - 1.5).abs() < 0.001, "{last}");
    let page = endpoint.metrics.page().unwrap();
    assert!(
        page.contains("brevdue_hook_answers_total{hook=\"innboks\",status=\"200\"} 2"),
        "{page}"
    );
}

#[tokio::test]
async fn each_refusal_has_its_status_an_empty_body_and_stores_nothing() {
    let endpoint = start().await;
    #[rustfmt::skip]
    let table = [
        ("POST", "/", ALTINN, 404, None), ("GET", "/favicon.ico", ALTINN, 404, None),
        ("POST", "/hooks/innboks?code=CODE", ALTINN, 404, None),
        ("POST", "/events/hooks/", ALTINN, 404, None), ("POST", "/events/hooks", ALTINN, 404, None),
        ("POST", "/events/hooks/innboks/?code=CODE", ALTINN, 404, None),
        ("POST", "/events//hooks/innboks?code=CODE", ALTINN, 404, None),
        ("POST", "/events/hooks/unknown?code=CODE", ALTINN, 404, None),
        ("POST", "/events/hooks/Innboks?code=CODE", ALTINN, 404, None),
        ("POST", "/events/hooks/innboks%2F?code=CODE", ALTINN, 404, None),
        ("POST", "/eventshooks/innboks?code=CODE", ALTINN, 404, None),
        ("GET", GOOD, ALTINN, 405, Some("POST")), ("HEAD", GOOD, ALTINN, 405, Some("POST")),
        ("PUT", GOOD, ALTINN, 405, Some("POST")), ("DELETE", GOOD, ALTINN, 405, Some("POST")),
        ("PATCH", GOOD, ALTINN, 405, Some("POST")), ("OPTIONS", GOOD, ALTINN, 405, Some("POST")),
        ("BREW", GOOD, ALTINN, 405, Some("POST")),
        // Method before secret, secret before media type.
        ("GET", "/events/hooks/innboks", ALTINN, 405, Some("POST")),
        ("GET", OTHER, ALTINN, 405, Some("POST, OPTIONS")), ("HEAD", OTHER, ALTINN, 405, Some("POST, OPTIONS")),
        ("POST", "/events/hooks/innboks", ALTINN, 401, None),
        ("POST", "/events/hooks/innboks?code=wrong", ALTINN, 401, None),
        ("POST", "/events/hooks/innboks?code=CODE&code=CODE", ALTINN, 401, None),
        ("POST", "/events/hooks/innboks?code=wrong", "text/html", 401, None),
        ("POST", OTHER, ALTINN, 401, None), ("OPTIONS", OTHER, ALTINN, 403, None),
        ("POST", GOOD, "text/html", 415, None), ("POST", GOOD, "application/json; charset=utf-16", 415, None),
        ("POST", GOOD, "application/cloudevents+avro", 415, None), ("POST", GOOD, "", 415, None),
    ];
    for (method, path, content_type, status, allow) in table {
        let request = endpoint.client.request(method.parse().unwrap(), endpoint.url(path));
        let request = request.header("content-type", content_type).body(event("1"));
        let answer = request.send().await.unwrap();
        let what = format!("{method} {path} {content_type}");
        assert_eq!(answer.status(), status, "{what}");
        let header = answer.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(header, allow, "{what}");
        assert_eq!(answer.text().await.unwrap(), "", "{what}");
    }
    assert!(endpoint.log.ids().is_empty());
    assert!(endpoint.log.content.lock().unwrap().raw.is_empty());
    let page = endpoint.metrics.page().unwrap();
    assert!(page.contains("brevdue_hook_answers_total{hook=\"\",status=\"404\"} 11"), "{page}");
}

#[tokio::test]
async fn only_an_open_question_to_the_daemon_itself_is_answered() {
    let endpoint = start().await;
    for (method, path, status, text) in [
        ("GET", "/events/hooks/.well-known/question", 200, "answer"),
        ("POST", "/events/hooks/.well-known/question", 405, ""),
        ("GET", "/events/hooks/.well-known/other", 404, ""),
        ("GET", "/events/hooks/.well-known/question/", 404, ""),
        ("GET", "/events/.well-known/question", 404, ""),
        ("GET", "/hooks/.well-known/question", 404, ""),
    ] {
        let request = endpoint.client.request(method.parse().unwrap(), endpoint.url(path));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.text().await.unwrap(), text, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_or_not() {
    let endpoint = start().await;
    let padded = |length: usize| format!("{}{}", event("1"), " ".repeat(length - event("1").len()));
    assert_eq!(endpoint.push(padded(MAX_BODY)).await.status(), 200);
    assert_eq!(endpoint.push(padded(MAX_BODY + 1)).await.status(), 413);
    // What was read to its end does not end the connection.
    let answer = endpoint.push(padded(200_000)).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get("connection")), (413, None));
    let head = format!("POST {GOOD} HTTP/1.1\r\nhost: x\r\ncontent-type: {ALTINN}\r\n");
    let chunks = "400\r\n".to_owned() + &" ".repeat(1024) + "\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunks.repeat(3));
    let answer = endpoint.raw(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    // The media type is told before the size, and neither is told to a stranger.
    let big = || padded(MAX_BODY + 1);
    let text = endpoint.post(GOOD, big()).header("content-type", "text/html");
    assert_eq!(text.send().await.unwrap().status(), 415);
    let stranger = endpoint.post("/events/hooks/innboks?code=wrong", big());
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    assert_eq!(endpoint.log.ids().len(), 1);
    assert!(endpoint.log.content.lock().unwrap().raw.is_empty());
}

#[tokio::test]
async fn a_chunked_body_within_the_limit_is_read_whole() {
    let endpoint = start().await;
    let event = event("chunked");
    let (one, two) = event.split_at(20);
    let head = format!(
        "POST {GOOD} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {ALTINN}\r\n"
    );
    let chunks = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let answer = endpoint.raw(&format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(endpoint.log.ids(), ["chunked"]);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_nothing_is_kept() {
    let endpoint = start().await;
    let head = format!("POST {GOOD} HTTP/1.1\r\nhost: x\r\ncontent-type: {ALTINN}\r\n");
    let answer = endpoint.raw(&format!("{head}content-length: 100\r\n\r\n{{\"id\"")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(endpoint.log.content.lock().unwrap().raw.is_empty());
}

#[tokio::test]
async fn a_validation_event_is_answered_even_if_the_log_is_full() {
    let endpoint = start().await;
    endpoint.log.fail(Some(QueueError::Full("the disk")));
    let answer = endpoint.push(VALIDATION).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-length"], "0");
    assert!(endpoint.log.ids().is_empty());
    let labels = HookLabels { hook: "innboks".to_owned() };
    assert_eq!(endpoint.metrics.validations.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn what_the_queue_does_not_take_is_503_with_retry_after() {
    let endpoint = start().await;
    let bodies = [event("1"), "no event".to_owned(), format!("[{},{VALIDATION}]", event("1"))];
    for error in
        [QueueError::Full("x"), QueueError::Unavailable("/var/lib".into()), QueueError::Closed]
    {
        endpoint.log.fail(Some(error.clone()));
        for body in &bodies {
            let answer = endpoint.push(body.clone()).await;
            assert_eq!(answer.status(), 503, "{error} {body}");
            let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!(seconds >= 1);
            assert_eq!(answer.text().await.unwrap(), "");
        }
    }
    endpoint.log.fail(None);
    assert_eq!(endpoint.push(event("1")).await.status(), 200);
    assert_eq!(endpoint.stored.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_altinn_push_that_is_no_event_is_kept_raw_and_answered_200() {
    let endpoint = start().await;
    for body in ["{\"text\": \"x\"}", "", "{\"specversion\":\"0.3\"}", "\u{0}"] {
        let answer = endpoint.push(body).await;
        assert_eq!(answer.status(), 200, "{body}");
        assert_eq!(answer.headers()["content-length"], "0");
    }
    let content = endpoint.log.content.lock().unwrap();
    assert_eq!(content.raw.len(), 4);
    let (push, failure) = &content.raw[0];
    assert_eq!((push.hook.as_str(), push.media_type.as_str()), ("innboks", ALTINN));
    assert_eq!(push.body, "{\"text\": \"x\"}");
    assert_eq!(failure.reason, "specversion is missing");
    assert!(content.stored.is_empty());
}

#[tokio::test]
async fn a_generic_sender_is_told_what_is_wrong_and_nothing_of_its_batch_is_kept() {
    let endpoint = start().await;
    let body = format!("[{},{{\"specversion\":\"1.0\",\"id\":\"secret\"}}]", event("1"));
    let answer = endpoint.post(OTHER, body).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "event 1 of the batch: source is missing");
    assert!(endpoint.log.ids().is_empty());
    let batch = format!("[{},{}]", event("1"), event("2"));
    let answer = endpoint.post(OTHER, batch).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(endpoint.log.ids(), ["1", "2"]);
}

#[tokio::test]
async fn a_binary_event_is_stored_as_a_structured_one() {
    let endpoint = start().await;
    let request = endpoint.post(OTHER, "{\"a\":1}").bearer_auth(TOKEN);
    let request =
        request.header("ce-specversion", "1.0").header("ce-id", "b").header("ce-type", "t");
    assert_eq!(request.header("ce-source", "/s").send().await.unwrap().status(), 200);
    let content = endpoint.log.content.lock().unwrap();
    let expected = r#"{"id":"b","source":"/s","specversion":"1.0","type":"t","datacontenttype":"application/json; charset=utf-8","data":{"a":1}}"#;
    assert_eq!(content.stored[0].event.json(), expected.as_bytes());
}

#[tokio::test]
async fn options_is_a_handshake_for_the_allowed_origin_only() {
    let endpoint = start().await;
    let options = |origin: &'static str| {
        let request = endpoint.client.request(Method::OPTIONS, endpoint.url(OTHER));
        request.header("webhook-request-origin", origin).send()
    };
    let allowed = options("sender.example.com").await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["webhook-allowed-origin"], "sender.example.com");
    assert_eq!(allowed.headers()["webhook-allowed-rate"], "*");
    assert_eq!(allowed.headers()["allow"], "POST, OPTIONS");
    let denied = options("sender.example.com.attacker.tld").await.unwrap();
    assert_eq!(denied.status(), 403);
    for header in ["webhook-allowed-origin", "webhook-allowed-rate", "allow"] {
        assert_eq!(denied.headers().get(header), None);
    }
}

#[tokio::test]
async fn the_same_event_fifty_times_at_once_is_stored_once_and_answered_200_each_time() {
    let endpoint = Arc::new(start().await);
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let endpoint = Arc::clone(&endpoint);
        requests.spawn(async move { endpoint.push(event("same")).await.status() });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses.len(), 50);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(endpoint.log.ids(), ["same"]);
    assert_eq!(endpoint.stored.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_is_answered_before_the_queue_has_it() {
    let endpoint = Arc::new(start().await);
    endpoint.log.gate.forget_permits(Semaphore::MAX_PERMITS);
    let pushing = Arc::clone(&endpoint);
    let mut requests = JoinSet::new();
    requests.spawn(async move { pushing.push(event("1")).await.status() });
    timeout(PATIENCE, endpoint.log.begun.acquire()).await.unwrap().unwrap().forget();
    // The request waits in the queue now; another is answered in the meantime.
    assert_eq!(endpoint.push(VALIDATION).await.status(), 200);
    assert!(requests.try_join_next().is_none());
    endpoint.log.gate.add_permits(1);
    assert_eq!(requests.join_next().await.unwrap().unwrap(), 200);
    assert_eq!(endpoint.log.ids(), ["1"]);
}

#[tokio::test]
async fn while_stopping_requests_on_open_connections_are_sent_elsewhere() {
    let endpoint = start().await;
    assert_eq!(endpoint.push(event("1")).await.status(), 200);
    endpoint.stopping.cancel();
    let answer = endpoint.push(event("2")).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["connection"], "close");
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(endpoint.log.ids(), ["1"]);
}

#[tokio::test]
async fn who_is_not_on_the_list_gets_403_before_the_secret_is_looked_at() {
    let list = |networks: &[&str], enforce| {
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        Some(AllowList { networks, enforce })
    };
    // The client is 127.0.0.1.
    for (networks, enforce, good, bad) in [
        (&["127.0.0.0/8"][..], true, 200, 401),
        (&["10.0.0.0/8", "127.0.0.1"], true, 200, 401),
        (&["10.0.0.0/8", "::1"], true, 403, 403),
        (&["10.0.0.0/8"], false, 200, 401),
    ] {
        let endpoint =
            endpoint::start_with(|hooks| hooks.allow_from = list(networks, enforce)).await;
        assert_eq!(endpoint.push(event("1")).await.status(), good, "{networks:?}");
        let stranger = endpoint.post("/events/hooks/innboks?code=wrong", event("2"));
        assert_eq!(stranger.send().await.unwrap().status(), bad, "{networks:?}");
        // Path and method come first.
        let other = endpoint.post("/events/hooks/unknown", event("3")).send().await.unwrap();
        assert_eq!(other.status(), 404);
        let get = endpoint.client.get(endpoint.url(GOOD)).send().await.unwrap();
        assert_eq!(get.status(), 405);
        // Also a handshake is for those on the list only.
        let origin = ("webhook-request-origin", "sender.example.com");
        let asked = endpoint.client.request(Method::OPTIONS, endpoint.url(OTHER));
        let asked = asked.header(origin.0, origin.1).send().await.unwrap();
        assert_eq!(asked.status(), good, "{networks:?}");
        let labels = HookLabels { hook: "innboks".to_owned() };
        let counted = endpoint.metrics.not_allowed.get_or_create(&labels).get();
        let listed = networks.iter().any(|text| text.starts_with("127."));
        assert_eq!(counted, if listed { 0 } else { 2 }, "{networks:?}");
        assert_eq!(endpoint.log.ids().len(), usize::from(good == 200));
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_list_is_held_against_who_is_behind_it() {
    let endpoint = endpoint::start_with(|hooks| {
        hooks.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        let networks = vec!["51.13.20.208/31".parse().unwrap()];
        hooks.allow_from = Some(AllowList { networks, enforce: true });
    })
    .await;
    for (forwarded, status) in [
        (Some("51.13.20.209"), 200),
        (Some("198.51.100.7, 51.13.20.208"), 200),
        (Some("51.13.20.209, 198.51.100.7"), 403),
        (Some("unknown"), 403),
        (None, 403),
    ] {
        let request = endpoint.post(GOOD, event("1"));
        let request = match forwarded {
            Some(text) => request.header("x-forwarded-for", text),
            None => request,
        };
        assert_eq!(request.send().await.unwrap().status(), status, "{forwarded:?}");
    }
}
