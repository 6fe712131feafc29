//! What the tests of this module share: a real HTTP server on loopback, keys made on the spot, and
//! a configuration that points at both.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use url::Url;

use super::{AltinnTokens, connect_with, events_api::EventsApi, http::client::Caller};
use crate::{
    clock::Clock,
    config::{Altinn, KeyName, Maskinporten},
    http_client,
    metrics::Metrics,
    secret::SecretFile,
};

/// One RSA key for all tests: making one takes a while.
pub(crate) static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

pub(crate) fn pkcs8() -> Vec<u8> {
    AsDer::<Pkcs8V1Der<'_>>::as_der(&*KEY).unwrap().as_ref().to_vec()
}

pub(crate) fn public_key() -> jsonwebtoken::DecodingKey {
    jsonwebtoken::DecodingKey::from_rsa_der(KEY.public_key().as_ref())
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// An unsigned JWT: nothing here verifies Altinn's signature.
pub(crate) fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) call: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply(u16, Vec<(&'static str, String)>, String);

impl Reply {
    #[expect(clippy::needless_pass_by_value, reason = "texts and JSON values, made for the call")]
    pub(crate) fn new(status: u16, body: impl ToString) -> Self {
        Self(status, Vec::new(), body.to_string())
    }

    #[expect(clippy::needless_pass_by_value, reason = "texts and numbers, made for the call")]
    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.1.push((name, value.to_string()));
        self
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.0);
        for (name, value) in self.1 {
            response = response.header(name, value);
        }
        response.body(Full::from(self.2)).unwrap()
    }
}

type Answers = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A server on a free port; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What Maskinporten's metadata are, if there are any.
    pub(crate) metadata: Arc<Mutex<Option<String>>>,
    _accepting: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let metadata = Arc::new(Mutex::new(None));
        let mut accepting = JoinSet::new();
        let told = (Arc::clone(&seen), Arc::clone(&metadata));
        accepting.spawn(accept(listener, told, Arc::new(answers)));
        Self { url, seen, metadata, _accepting: accepting }
    }

    /// What came, as `METHOD /path`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.call.clone()).collect()
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|seen| *seen == call).count()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

type Told = (Arc<Mutex<Vec<Seen>>>, Arc<Mutex<Option<String>>>);

async fn accept(listener: TcpListener, told: Told, answers: Answers) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (told, answers) = (told.clone(), Arc::clone(&answers));
        let service = service_fn(move |request| answer(request, told.clone(), answers.clone()));
        connections.spawn(async move {
            // A connection that breaks off is the client's to notice.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    (seen, metadata): Told,
    answers: Answers,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let request = Seen {
        call: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    // Who does not answer it is left alone with it: then the known endpoint is used.
    if request.call == METADATA {
        let body = metadata.lock().unwrap().clone();
        let reply = body.map_or_else(|| Reply::new(404, ""), |body| Reply::new(200, body));
        return Ok(reply.response());
    }
    seen.lock().unwrap().push(request.clone());
    Ok(answers(&request).response())
}

pub(crate) const METADATA: &str = "GET /.well-known/oauth-authorization-server";
pub(crate) const TOKEN: &str = "POST /token";
pub(crate) const EXCHANGE: &str = "GET /authentication/api/v1/exchange/maskinporten";
pub(crate) const LIST: &str = "GET /events/api/v1/subscriptions";
pub(crate) const CREATE: &str = "POST /events/api/v1/subscriptions";

/// Grants and exchanges whatever is asked; `events` answers the rest.
pub(crate) fn signed_in(
    clock: &Clock,
    events: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let clock = clock.clone();
    let made = Mutex::new(0);
    move |seen| match seen.call.as_str() {
        TOKEN => Reply::new(200, json!({"access_token": "opaque", "expires_in": 119})),
        EXCHANGE => {
            let mut made = made.lock().unwrap();
            *made += 1;
            let exp = clock.now().after(Duration::from_secs(1800)).as_secs();
            Reply::new(200, jwt(&json!({"exp": exp, "jti": *made})))
        }
        _ => events(seen),
    }
}

pub(crate) fn client() -> reqwest::Client {
    http_client::builder(Duration::from_secs(10)).no_proxy().build().unwrap()
}

/// A configuration that points at `server`, with its key in `folder`.
pub(crate) fn config(server: &Server, folder: &Path) -> Altinn {
    std::fs::write(folder.join("key.pem"), pem("PRIVATE KEY", &pkcs8())).unwrap();
    Altinn {
        platform_url: server.url.clone(),
        maskinporten_issuer: server.url.to_string(),
        ca_file: None,
        reconcile_interval: Duration::from_secs(600),
        feed_interval: Duration::from_secs(600),
        overlap: Duration::from_secs(3900),
        self_proof: false,
        api_key_file: None,
        maskinporten: Maskinporten {
            client_id: "client-1".to_owned(),
            key_file: SecretFile::resolve("key.pem", folder).unwrap(),
            key_name: KeyName::Id("kid-1".to_owned()),
            scopes: vec!["altinn:events.subscribe".to_owned(), "altinn:x".to_owned()],
            system_user: None,
            consumer_org: None,
            resource: Vec::new(),
            token_endpoint: None,
        },
    }
}

/// A client for a server that answers as told, with its folder.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) config: Altinn,
    pub(crate) events: EventsApi<AltinnTokens>,
    pub(crate) metrics: Metrics,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn new(
        clock: &Clock,
        answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::with(clock, answers, |_, _| {}).await
    }

    pub(crate) async fn with(
        clock: &Clock,
        answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        change: impl FnOnce(&mut Altinn, &Path),
    ) -> Self {
        let server = Server::start(answers).await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&server, folder.path());
        change(&mut config, folder.path());
        let metrics = Metrics::default();
        let caller = Caller { clock: clock.clone(), metrics: metrics.clone() };
        let events = connect_with(client(), &config, caller).unwrap();
        Self { server, config, events, metrics, folder }
    }
}
