//! A stand-in on a real socket, a client that knows nothing but the wire, and a subscriber's
//! endpoint that answers as it is told. Shared by the tests of the parts.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header::LOCATION};
use hyper::body::Incoming;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{
    options::{Client, Engine, Options, SystemUser},
    state::State,
    workspace::{Credentials, LOCAL_NAMES, ORG, RESOURCE},
    *,
};
use crate::{
    clock::{Clock, Timestamp},
    http_client,
    server::{Answer, Peer, Service, answer, body},
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// RSA keys are slow to make, so all tests share one set.
pub(super) fn credentials() -> &'static Credentials {
    static SHARED: OnceLock<Credentials> = OnceLock::new();
    SHARED.get_or_init(|| Credentials::new().unwrap())
}

/// Plain HTTP, time a thousand times as fast, one client with everything.
pub(super) fn options() -> Options {
    let mut options = credentials().options().unwrap();
    options.tls = None;
    options.time_scale = NonZeroU32::new(1000).unwrap();
    let client = &mut options.clients[0];
    client.scopes.push("altinn:serviceowner".to_owned());
    client.system_users = vec![
        SystemUser { org: "310000001".to_owned(), external_ref: None, uuid: "u-1".to_owned() },
        SystemUser {
            org: "310000001".to_owned(),
            external_ref: Some("ref".to_owned()),
            uuid: "u-2".to_owned(),
        },
    ];
    options.service_owners.insert(ORG.to_owned(), "ttd".to_owned());
    options
}

pub(super) fn client(options: &Options) -> &Client {
    &options.clients[0]
}

/// A state without a socket, on a clock that stands still.
pub(super) fn state(change: impl FnOnce(&mut Options)) -> Arc<State> {
    let mut options = options();
    options.clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    change(&mut options);
    Arc::new(State::new(options, "http://sim".to_owned()).unwrap())
}

/// The claims of a good assertion.
pub(super) fn claims(state: &State) -> Value {
    let now = state.now().as_secs();
    json!({
        "aud": state.issuer(),
        "iss": client(&state.options).id,
        "iat": now,
        "exp": now + 120,
        "jti": uuid::Uuid::new_v4().to_string(),
        "scope": "altinn:events.subscribe",
    })
}

/// Signs any claims under any header.
pub(super) fn sign(header: &Header, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(credentials().key.private_pem.as_bytes()).unwrap();
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

/// A good header.
pub(super) fn header(state: &State) -> Header {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(client(&state.options).keys[0].id.clone());
    header
}

pub(super) async fn text(answer: Answer) -> (StatusCode, String) {
    use http_body_util::BodyExt;
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The headers of a caller with an Altinn token for `scope`, and system user if told.
pub(super) async fn signed_in(state: &State, scope: &str, details: Option<Value>) -> HeaderMap {
    let mut wanted = claims(state);
    wanted["scope"] = scope.into();
    if let Some(details) = details {
        wanted["authorization_details"] = details;
    }
    let (status, body) = token(state, &sign(&header(state), &wanted)).await;
    assert_eq!(status, 200, "{body}");
    let token: Value = serde_json::from_str(&body).unwrap();
    let headers = bearer(token["access_token"].as_str().unwrap());
    let (status, token) = text(exchange::exchange(state, "Maskinporten", &headers)).await;
    assert_eq!(status, 200, "{token}");
    bearer(&token)
}

pub(super) fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}

/// Asks the token endpoint.
pub(super) async fn token(state: &State, assertion: &str) -> (StatusCode, String) {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("assertion", assertion)
        .finish();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    text(maskinporten::token(state, &headers, form.as_bytes()).await).await
}

/// What came to the subscriber.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// A subscriber: answers with the next of its script, then 200.
#[derive(Default)]
pub(super) struct Script {
    answers: Mutex<VecDeque<(u16, Option<String>)>>,
    seen: Mutex<Vec<Seen>>,
    came: Notify,
}

impl Script {
    pub(super) fn then(&self, status: u16, location: Option<&str>) {
        self.answers.lock().unwrap().push_back((status, location.map(str::to_owned)));
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `n` requests have come.
    pub(super) async fn after(&self, n: usize) -> Vec<Seen> {
        let wait = async {
            loop {
                let came = self.came.notified();
                let seen = self.seen();
                if seen.len() >= n {
                    return seen;
                }
                came.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }
}

impl Service for Script {
    async fn answer(&self, request: Request<Incoming>, _peer: Peer) -> Answer {
        let (parts, incoming) = request.into_parts();
        let bytes = body::read(incoming, 1 << 20, PATIENCE).await.unwrap();
        let next = self.answers.lock().unwrap().pop_front();
        self.seen.lock().unwrap().push(Seen {
            method: parts.method,
            target: parts.uri.to_string(),
            headers: parts.headers,
            body: String::from_utf8(bytes.to_vec()).unwrap(),
        });
        self.came.notify_one();
        let (status, location) = next.unwrap_or((200, None));
        let mut answer = answer::empty(StatusCode::from_u16(status).unwrap());
        if let Some(location) = location {
            answer.headers_mut().insert(LOCATION, location.parse().unwrap());
        }
        answer
    }
}

pub(super) struct Subscriber {
    pub(super) url: String,
    pub(super) script: Arc<Script>,
    _stop: tokio_util::sync::DropGuard,
}

/// A subscriber under TLS with a certificate of `ca`.
pub(super) async fn subscriber(ca: &ca::Ca) -> Subscriber {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(Script::default());
    let server = Server {
        sockets: vec![Socket::Tcp(listener)],
        tls: Some(ca.server_config(&LOCAL_NAMES).unwrap()),
        limits: LIMITS,
        service: Arc::clone(&script),
        gauges: Gauges::default(),
    };
    let stop = CancellationToken::new();
    TaskTracker::new().spawn(server.run(stop.clone()));
    let url = format!("https://localhost:{port}");
    Subscriber { url, script, _stop: stop.drop_guard() }
}

/// A client of a running stand-in.
pub(super) struct Bench {
    pub(super) running: Running,
    http: reqwest::Client,
}

pub(super) async fn bench(change: impl FnOnce(&mut Options)) -> Bench {
    let mut options = options();
    change(&mut options);
    let running = Simulator::start(options).await.unwrap();
    let http = http_client::builder(PATIENCE).no_proxy().build().unwrap();
    Bench { running, http }
}

impl Bench {
    pub(super) fn state(&self) -> &Arc<State> {
        &self.running.state
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        (headers, body): (HeaderMap, &str),
    ) -> (u16, HeaderMap, String) {
        let method = method.parse::<Method>().unwrap();
        let url = format!("{}{path}", self.running.base_url);
        let request = self.http.request(method, url).headers(headers);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.text().await.unwrap())
    }

    pub(super) async fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/simulator/{path}");
        let (status, _, text) =
            self.call(method, &path, (HeaderMap::new(), &body.to_string())).await;
        assert!(status < 300, "{status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub(super) async fn subscribe(&self, body: &Value) -> (u16, HeaderMap, String) {
        let mut headers = signed_in(self.state(), "altinn:events.subscribe", None).await;
        headers.insert("content-type", "application/json".parse().unwrap());
        let path = "/events/api/v1/subscriptions";
        self.call("POST", path, (headers, &body.to_string())).await
    }

    /// Asks the control API until `good`; the attempts are noted after the subscriber has answered.
    pub(super) async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let ask = async {
            loop {
                let value = self.control("GET", path, &Value::Null).await;
                if good(&value) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.unwrap()
    }
}

pub(super) fn wish(endpoint: &str) -> Value {
    json!({
        "endPoint": endpoint,
        "resourceFilter": RESOURCE,
        "subjectFilter": format!("urn:altinn:organization:identifier-no:{ORG}"),
    })
}

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
