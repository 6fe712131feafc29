use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{PATIENCE, bench, credentials, options, signed_in, subscriber, wish};
use crate::simulator::{
    Simulator,
    auth::tokens,
    options::{Engine, Options},
    workspace::{self, ORG, RESOURCE},
};

#[tokio::test]
async fn an_event_goes_the_whole_way_from_token_to_push_and_feed() {
    let subscriber = subscriber(&credentials().ca).await;
    let bench = bench(|_| {}).await;
    let endpoint = format!("{}/hooks/innboks?code=abc", subscriber.url);
    let (status, headers, row) = bench.subscribe(&wish(&endpoint)).await;
    assert_eq!(status, 201, "{row}");
    assert_eq!(headers["location"], "/events/api/v1/subscription/1");
    let validation = &subscriber.script.after(1).await[0];
    let event: Value = serde_json::from_str(&validation.body).unwrap();
    assert_eq!(event["type"], "platform.events.validatesubscription");
    assert_eq!(
        event["source"],
        format!("{}/events/api/v1/subscriptions/1", bench.running.base_url)
    );
    assert_eq!(event.as_object().unwrap().len(), 4);
    bench.until("subscriptions", |rows| rows[0]["validated"] == true).await;

    let order = json!({ "resource": "nabovarsel", "subject": ORG });
    let published = bench.control("POST", "events", &order).await;
    assert_eq!(published["pushes"], 1);
    let push = &subscriber.script.after(2).await[1];
    assert_eq!((push.method.as_str(), push.target.as_str()), ("POST", "/hooks/innboks?code=abc"));
    let mut names: Vec<_> = push.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "host"]);
    assert_eq!(push.headers["content-type"], "application/json; charset=utf-8");
    assert!(push.body.starts_with(r#"{"specversion":"1.0","id":""#), "{}", push.body);

    let headers = signed_in(bench.state(), "altinn:events.subscribe", None).await;
    let path = format!("/events/api/v1/events?resource={RESOURCE}&after=0&size=1000");
    let feed = async {
        loop {
            let (status, _, page) = bench.call("GET", &path, (headers.clone(), "")).await;
            assert_eq!(status, 200);
            if page != "[]" {
                return page;
            }
        }
    };
    let page = tokio::time::timeout(PATIENCE, feed).await.unwrap();
    let items: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(items[0]["id"], published["ids"][0]);
    bench.running.stop().await;
}

#[tokio::test]
async fn what_was_asked_is_counted() {
    let bench = bench(|_| {}).await;
    let (status, _, _) =
        bench.call("GET", "/events/api/v1/subscriptions", (HeaderMap::new(), "")).await;
    assert_eq!(status, 401);
    let headers = signed_in(bench.state(), "altinn:events.subscribe", None).await;
    let (status, _, list) = bench.call("GET", "/events/api/v1/subscriptions", (headers, "")).await;
    assert_eq!((status, list.as_str()), (200, r#"{"count":0,"subscriptions":[]}"#));
    let seen = bench.control("GET", "requests", &Value::Null).await;
    for (name, count) in [
        ("token_requests", 1),
        ("tokens_issued", 1),
        ("exchanges", 1),
        ("subscription_lists", 2),
        ("subscription_posts", 0),
        ("unauthorized", 1),
    ] {
        assert_eq!(seen[name], count, "{name}");
    }
}

#[tokio::test]
async fn faults_are_played_and_tokens_can_be_ended() {
    let bench = bench(|_| {}).await;
    let headers = signed_in(bench.state(), "altinn:events.subscribe", None).await;
    let path = "/events/api/v1/subscriptions";
    for (fault, expected) in [
        (json!({ "events": "429" }), 429),
        (json!({ "events": "500" }), 500),
        (json!({}), 200),
        (json!({ "expire_tokens": true }), 401),
    ] {
        bench.control("POST", "faults", &fault).await;
        let (status, _, _) = bench.call("GET", path, (headers.clone(), "")).await;
        assert_eq!(status, expected, "{fault}");
    }
    let fresh = signed_in(bench.state(), "altinn:events.subscribe", None).await;
    assert_eq!(bench.call("GET", path, (fresh, "")).await.0, 200);
    let wrong = (HeaderMap::new(), r#"{"token":"teapot"}"#);
    assert_eq!(bench.call("POST", "/simulator/faults", wrong).await.0, 400);
}

#[tokio::test]
async fn with_an_api_key_the_platform_wants_it_before_any_token() {
    let bench = bench(|options| options.api_key = Some("k".to_owned())).await;
    let path = "/authentication/api/v1/exchange/maskinporten";
    let (status, _, body) = bench.call("GET", path, (HeaderMap::new(), "")).await;
    assert_eq!(status, 401);
    assert!(body.contains("Access denied due to missing subscription key."), "{body}");
    let mut headers = HeaderMap::new();
    headers.insert("Ocp-Apim-Subscription-Key", "k".parse().unwrap());
    let (status, _, body) = bench.call("GET", path, (headers, "")).await;
    assert_eq!(status, 401);
    assert!(body.contains("\"title\":\"Unauthorized\""), "{body}");
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let mut options = options();
    options.listen = "0.0.0.0:0".parse().unwrap();
    assert!(Simulator::start(options).await.is_err());
}

#[test]
fn the_engine_and_the_scale_have_quiet_defaults() {
    let options = Options::new(String::new());
    assert_eq!((options.engine, options.time_scale.get()), (Engine::B, 1));
    let part = URL_SAFE_NO_PAD.encode(Bytes::from_static(b"{}"));
    assert!(tokens::Jwt::parse(&format!("{part}.{part}.{part}")).is_some());
    assert!(tokens::Jwt::parse(&format!("{part}.{part}")).is_none());
}

#[tokio::test]
async fn a_workspace_holds_a_readable_configuration_and_keys_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let bench = bench(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let daemon = workspace::Daemon {
        listen: "127.0.0.1:9443".parse().unwrap(),
        handlers: "[handlers.logg]\nkind = \"file\"\npath = \"events.jsonl\"",
        settings: "shutdown_grace = \"1s\"",
    };
    let path =
        workspace::write_workspace(dir.path(), &bench.running, credentials(), daemon).unwrap();
    let file = config::File::from(path).format(config::FileFormat::Toml);
    let read = config::Config::builder().add_source(file).build().unwrap();
    for (key, value) in [
        ("altinn.platform_url", bench.running.base_url.clone()),
        ("altinn.maskinporten_issuer", bench.running.maskinporten_issuer()),
        ("server.public_url", "https://localhost:9443".to_owned()),
        ("handlers.logg.kind", "file".to_owned()),
        ("shutdown_grace", "1s".to_owned()),
    ] {
        assert_eq!(read.get_string(key).unwrap(), value, "{key}");
    }
    for name in ["ca.pem", "tls/fullchain.pem", "tls/privkey.pem", "maskinporten.pem"] {
        let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
