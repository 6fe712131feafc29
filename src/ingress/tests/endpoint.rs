//! The hook endpoint on a real socket, and a client.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use crate::{
    clock::{Clock, Timestamp},
    ingress::Hooks,
    metrics::Metrics,
    name::HookName,
    secret::SecretFile,
    server::{Gauges, Limits, Server, Socket, bodies::Bodies},
    source::{
        Source,
        altinn::Altinn,
        cloudevents::{Auth, CloudEvents},
        membership::Membership,
        secrets::HookSecrets,
    },
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const MAX_BODY: usize = 2048;
pub(super) const ALTINN: &str = "application/json; charset=utf-8";
pub(super) const TOKEN: &str = "token-of-the-other-1";

/// The running endpoint, with one Altinn hook and one generic one.
pub(super) struct Endpoint {
    address: SocketAddr,
    pub(super) code: String,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) stored: Arc<AtomicUsize>,
    pub(super) stopping: CancellationToken,
    pub(super) client: reqwest::Client,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<std::io::Result<()>>,
}

fn sources(folder: &std::path::Path) -> (String, BTreeMap<HookName, Arc<dyn Source>>) {
    let name: HookName = "innboks".parse().unwrap();
    let secrets = Arc::new(HookSecrets::open(None, folder, &name).unwrap());
    let code = secrets.current().expose_secret().to_owned();
    let subscription = Membership::new(name.clone(), "urn:altinn:resource:nabovarsel");
    let altinn = Altinn {
        name: name.clone(),
        secrets,
        subscriptions: Arc::new(vec![subscription]),
        validated: Arc::new(Notify::new()),
    };
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    let token = SecretFile::resolve("token", folder).unwrap();
    let other = CloudEvents {
        name: "other".parse().unwrap(),
        auth: Auth::Bearer(HookSecrets::bearer(&token).unwrap()),
        allowed_origins: vec!["sender.example.com".to_owned()],
    };
    let (altinn, other): (Arc<dyn Source>, Arc<dyn Source>) = (Arc::new(altinn), Arc::new(other));
    (code, BTreeMap::from([(name, altinn), ("other".parse().unwrap(), other)]))
}

pub(super) async fn start() -> Endpoint {
    start_with(|_| {}).await
}

/// With hooks that are changed before they are served.
pub(super) async fn start_with(change: impl FnOnce(&mut Hooks<Log>)) -> Endpoint {
    let folder = tempfile::tempdir().unwrap();
    let (code, sources) = sources(folder.path());
    let (log, metrics, stopping) = (Log::default(), Metrics::default(), CancellationToken::new());
    let stored = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stored);
    let mut hooks = Hooks {
        prefix: "/events/".to_owned(),
        well_known: Arc::new(|path| (path == "question").then(|| "answer".to_owned())),
        sources,
        queue: log.clone(),
        max_body: MAX_BODY,
        bodies: Bodies::new(1024 * 1024),
        refusals: Arc::default(),
        body_timeout: Duration::from_millis(300),
        trusted_proxies: vec![],
        allow_from: None,
        stopping: stopping.clone(),
        on_stored: Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }),
        on_push: Arc::new(|_, _| {}),
        metrics: metrics.clone(),
        clock: Clock::manual(Timestamp::from_millis(1_500)),
    };
    change(&mut hooks);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        max_connections: NonZeroUsize::new(256).unwrap(),
        handshake_timeout: PATIENCE,
        request_timeout: PATIENCE,
    };
    let server = Server {
        sockets: vec![Socket::Tcp(listener)],
        tls: None,
        limits,
        service: Arc::new(hooks),
        gauges: Gauges::default(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(CancellationToken::new()));
    let client = crate::http_client::build(PATIENCE, None).unwrap();
    Endpoint {
        address,
        code,
        log,
        metrics,
        stored,
        stopping,
        client,
        _folder: folder,
        _tasks: tasks,
    }
}

pub(super) fn event(id: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","type":"t","resource":"urn:altinn:resource:nabovarsel","source":"/s"}}"#
    )
}

impl Endpoint {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.address, path.replace("CODE", &self.code))
    }

    pub(super) fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).header("content-type", ALTINN).body(body)
    }

    pub(super) async fn push(&self, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.post("/events/hooks/innboks?code=CODE", body).send().await.unwrap()
    }

    /// Everything that comes back to these bytes, until the connection ends.
    pub(super) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.replace("CODE", &self.code).as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}
