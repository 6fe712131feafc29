//! Talking to a running daemon over its admin socket.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;

use crate::{admin::schema, http_client};

/// For one question; the daemon is on this machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer: a thousand events with their bodies.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// A client of one daemon.
#[derive(Debug)]
pub(super) struct AdminClient {
    client: Client,
    socket: String,
}

impl AdminClient {
    /// For the daemon that listens on `socket`; connects with the first question.
    pub(super) fn new(socket: &Path) -> anyhow::Result<Self> {
        let client = http_client::builder(PATIENCE).no_proxy().unix_socket(socket).build()?;
        Ok(Self { client, socket: socket.display().to_string() })
    }

    /// GET, and its answer.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let body = self.ask(Method::GET, path, query).await?;
        serde_json::from_slice(&body).context("the daemon's answer is not what was expected")
    }

    /// POST, and its answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let body = self.ask(Method::POST, path, query).await?;
        serde_json::from_slice(&body).context("the daemon's answer is not what was expected")
    }

    /// A request without an answer.
    pub(super) async fn tell(&self, method: Method, path: &str) -> anyhow::Result<()> {
        self.ask(method, path, &[]).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Vec<u8>> {
        let request = self.client.request(method, format!("http://localhost{path}")).query(query);
        // No request here has a body; hyper would leave it out.
        let request = request.header(reqwest::header::CONTENT_LENGTH, 0);
        let answer = request.send().await.with_context(|| {
            format!(
                "no daemon answers on {} (is brevdue running, and may you use it?)",
                self.socket
            )
        })?;
        let status = answer.status();
        let body = http_client::body(answer, MAX_ANSWER).await?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<schema::Error>(&body) {
            Ok(told) => bail!("{}", told.error),
            Err(_) => bail!("the daemon answered {status}"),
        }
    }
}
