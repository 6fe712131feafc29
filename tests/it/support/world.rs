//! A stand-in, a receiver and a configuration that connects them, in a folder of their own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use brevdue::simulator::{
    Running, Simulator,
    options::Options,
    workspace::{self, Credentials},
};
use reqwest::{Body, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{daemon::Daemon, eventually, receiver::Receiver};

pub(crate) use brevdue::simulator::workspace::{ORG, RESOURCE};

/// An event as Altinn pushes it, with an id of the test's choice.
pub(crate) fn event(id: &str) -> String {
    json!({
        "specversion": "1.0",
        "id": id,
        "type": "no.altinn.correspondence.correspondencepublished",
        "time": "2026-08-20T10:00:00.1234567Z",
        "resource": RESOURCE,
        "resourceinstance": "019ce781-a5c0-7d03-8f51-3e7dda66dd74",
        "subject": format!("urn:altinn:organization:identifier-no:{ORG}"),
        "alternativesubject": format!("/organisation/{ORG}"),
        "source": "https://platform.tt02.altinn.no/correspondence/api/v1/correspondence",
    })
    .to_string()
}

/// A retry policy that is quick enough for a test and still a policy.
pub(crate) const QUICK_RETRY: &str = r#"retry = { initial = "20ms", max = "200ms", factor = 2.0 }"#;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) simulator: Running,
    pub(crate) receiver: Receiver,
    pub(crate) config: PathBuf,
    pub(crate) client: reqwest::Client,
    pub(crate) listen: SocketAddr,
    published: Mutex<Vec<String>>,
}

impl World {
    /// One handler that delivers to the receiver, quick to retry.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, QUICK_RETRY, "").await
    }

    /// `options` change the stand-in; `handler` are further lines of `[handlers.arkiv]`; `more`
    /// is TOML after that.
    pub(crate) async fn with(
        options: impl FnOnce(&mut Options),
        handler: &str,
        more: &str,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let receiver = Receiver::start().await;
        let credentials = Credentials::new().expect("credentials");
        let mut chosen = credentials.options().expect("options");
        options(&mut chosen);
        let simulator = Simulator::start(chosen).await.expect("a stand-in");
        let listen = free_port();
        let handlers = format!(
            "[handlers.arkiv]\nkind = \"http\"\nurl = \"{}\"\n{handler}\n{more}\n\
             [log]\nformat = \"json\"\nlevel = \"brevdue=debug,info\"\n",
            receiver.url()
        );
        let daemon = workspace::Daemon { listen, handlers: &handlers, settings: "" };
        let path = folder.path();
        let config = workspace::write_workspace(path, &simulator, &credentials, daemon);
        let config = config.expect("a configuration");
        let ca = reqwest::Certificate::from_pem(credentials.ca.ca_pem().as_bytes()).expect("a CA");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        let client = client.redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        let published = Mutex::default();
        Self { folder, simulator, receiver, config, client, listen, published }
    }

    /// A client that has no connection yet.
    pub(crate) fn client_without_connections(&self) -> reqwest::Client {
        let ca = fs::read(self.folder.path().join("ca.pem")).expect("a CA");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a CA");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        client.build().expect("a client")
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) async fn daemon(&self) -> Daemon {
        Daemon::start(&self.config, self.folder.path()).await
    }

    /// A command with the daemon's configuration, whether a daemon runs or not.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        super::daemon::command(&self.config, arguments)
    }

    /// Changes the configuration for the next start.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let before = fs::read_to_string(&self.config).expect("a configuration");
        let after = before.replacen(from, to, 1);
        assert_ne!(before, after, "nothing to change");
        fs::write(&self.config, after).expect("a configuration");
    }

    /// Puts these lines into `[altinn]`.
    pub(crate) fn altinn_settings(&self, lines: &str) {
        self.edit("\n[altinn]\n", &format!("\n[altinn]\n{lines}"));
    }

    /// The hook's URL without its secret.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.listen.port())
    }

    /// What brevdue made, and Altinn has been told.
    pub(crate) fn secret(&self, name: &str) -> String {
        let file = self.folder.path().join("data/secrets").join(name);
        fs::read_to_string(file).expect("a made secret").trim().to_owned()
    }

    /// The first of these secrets.
    pub(crate) fn current_secret(&self, name: &str) -> String {
        self.secret(name).lines().next().expect("a secret").to_owned()
    }

    /// The hook's URL with its secret.
    pub(crate) fn hook(&self, name: &str) -> String {
        self.url(&format!("/hooks/{name}?code={}", self.current_secret(name)))
    }

    /// A push as Altinn sends it, by the test itself.
    pub(crate) fn push(&self, name: &str, body: impl Into<Body>) -> RequestBuilder {
        let json = "application/json; charset=utf-8";
        self.client.post(self.hook(name)).header("content-type", json).body(body)
    }

    /// The stand-in's control API: GET.
    pub(crate) async fn altinn(&self, path: &str) -> Value {
        let url = format!("{}/simulator/{path}", self.simulator.base_url);
        self.client.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The stand-in's control API: POST.
    pub(crate) async fn tell_altinn(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/simulator/{path}", self.simulator.base_url);
        let answer = self.client.post(url).json(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.expect("JSON")
    }

    /// The stand-in's control API: DELETE.
    pub(crate) async fn delete_at_altinn(&self, path: &str) -> Response {
        let url = format!("{}/simulator/{path}", self.simulator.base_url);
        self.client.delete(url).send().await.expect("an answer")
    }

    /// Has Correspondence publish events; their ids.
    pub(crate) async fn publish(&self, count: usize) -> Vec<String> {
        let order = json!({ "resource": RESOURCE, "subject": ORG, "count": count });
        let answer = self.tell_altinn("events", &order).await;
        let ids: Vec<String> = serde_json::from_value(answer["ids"].clone()).expect("ids");
        self.published.lock().unwrap().extend(ids.iter().cloned());
        ids
    }

    /// Everything that was published so far.
    pub(crate) fn published(&self) -> Vec<String> {
        self.published.lock().unwrap().clone()
    }

    /// Waits until all of Altinn's rows with our endpoint are validated, and there are so many.
    pub(crate) async fn validated(&self, count: usize) -> Vec<Value> {
        eventually("validated subscriptions", || async {
            let rows = self.altinn("subscriptions").await;
            let rows: Vec<Value> = serde_json::from_value(rows).expect("rows");
            let ours = self.url("/hooks/");
            let endpoint = |row: &Value| row["endPoint"].as_str().unwrap_or_default().to_owned();
            let rows: Vec<_> =
                rows.into_iter().filter(|row| endpoint(row).starts_with(&ours)).collect();
            let all = rows.iter().all(|row| row["validated"] == true);
            (all && rows.len() == count).then_some(rows)
        })
        .await
    }
}

/// A port that is free now, and stays so until the daemon binds it: Altinn must know it before,
/// so it is taken from below those that the system gives out by itself.
fn free_port() -> SocketAddr {
    const PORTS: u16 = 100;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 120).expect("small");
    let free = (0..10 * PORTS).find_map(|_| {
        let port = 20_000 + process * PORTS + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    free.expect("a free port").local_addr().expect("an address")
}
