//! A stand-in, a receiver and a configuration that connects them, in a folder of their own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Output,
    sync::Mutex,
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
    _port: File,
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
        let (listen, port) = free_port();
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
        Self { folder, simulator, receiver, config, client, listen, _port: port, published }
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

    /// Waits until no handler has anything left to do: what is to come twice has come by then.
    pub(crate) async fn settled(&self) {
        let socket = self.folder.path().join("admin.sock");
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy();
        let client = client.build().expect("a client");
        eventually("everything settled", || async {
            let answer = client.get("http://localhost/v1/status").send().await.ok()?;
            let status: Value = answer.json().await.ok()?;
            let handlers = status["handlers"].as_array()?;
            let rests = |handler: &Value| {
                ["pending", "in_flight", "retrying"].iter().all(|what| handler[what] == 0)
            };
            handlers.iter().all(rests).then_some(())
        })
        .await;
    }

    /// Waits until all of these were delivered and nothing is left to do; then each was, once.
    pub(crate) async fn once_each(&self, ids: &[impl AsRef<str>]) {
        eventually("every event", || async {
            ids.iter().all(|id| !self.receiver.of(id.as_ref()).is_empty()).then_some(())
        })
        .await;
        self.settled().await;
        for id in ids {
            assert_eq!(self.receiver.of(id.as_ref()).len(), 1, "{}", id.as_ref());
        }
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

/// A port that is free and stays so until the daemon binds it, since Altinn must know it before: it
/// is taken from below those that the system gives out by itself, and as long as this world has the
/// lock on its file no other test takes it, in whichever process.
pub(crate) fn free_port() -> (SocketAddr, File) {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let folder = std::env::temp_dir().join("brevdue-test-ports");
    fs::create_dir_all(&folder).expect("a folder for locks");
    let first = fastrand::u16(PORTS);
    let ports = (first..PORTS.end).chain(PORTS.start..first);
    let free = ports.filter_map(|port| {
        let lock = File::create(folder.join(port.to_string())).ok()?;
        lock.try_lock().ok()?;
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some((bound.local_addr().ok()?, lock))
    });
    free.into_iter().next().expect("a free port")
}
