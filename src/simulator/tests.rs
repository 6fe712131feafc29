//! A stand-in on a real socket, a client that knows nothing but the wire, and a subscriber's
//! endpoint that answers as it is told. Shared by the tests of the parts.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex, OnceLock},
};

use http::{HeaderMap, Method, Request, StatusCode, header::LOCATION};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{
    auth::{exchange, maskinporten},
    options::{Client, Options, SystemUser},
    state::State,
    workspace::{Credentials, LOCAL_NAMES, ORG, RESOURCE},
    *,
};
use crate::{
    clock::{Clock, Timestamp},
    http_client,
    server::{Answer, Peer, RequestBody, Service, answer, body},
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
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
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

mod whole_way;
