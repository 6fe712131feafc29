//! Talking to a running daemon over its admin socket.
//!
//! Owns the paths of its API: what a person or a listing names becomes one encoded segment, and
//! cannot name another place.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;

use crate::{admin::schema, http_client};

/// For one question; the daemon is on this machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer: a thousand events with their bodies.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// A path of the API. What is fixed in it is a literal; all else goes through [`ApiPath::and`].
#[derive(Debug, Clone)]
pub(super) struct ApiPath(String);

impl From<&'static str> for ApiPath {
    fn from(fixed: &'static str) -> Self {
        Self(fixed.to_owned())
    }
}

impl ApiPath {
    /// With one more segment, whatever is in it. What a path cannot have as a segment is refused.
    pub(super) fn and(self, segment: &str) -> anyhow::Result<Self> {
        // A URL takes these for steps, encoded or not.
        if matches!(segment, "" | "." | "..") {
            bail!("`{segment}` names nothing");
        }
        let segment = utf8_percent_encode(segment, NON_ALPHANUMERIC);
        Ok(Self(format!("{}/{segment}", self.0)))
    }

    /// With a fixed end.
    pub(super) fn then(self, fixed: &'static str) -> Self {
        Self(self.0 + fixed)
    }
}

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
        path: impl Into<ApiPath>,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let body = self.ask(Method::GET, path.into(), query).await?;
        serde_json::from_slice(&body).context("the daemon's answer is not what was expected")
    }

    /// POST, and its answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: impl Into<ApiPath>,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let body = self.ask(Method::POST, path.into(), query).await?;
        serde_json::from_slice(&body).context("the daemon's answer is not what was expected")
    }

    /// A request without an answer.
    pub(super) async fn tell(&self, method: Method, path: ApiPath) -> anyhow::Result<()> {
        self.ask(method, path, &[]).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        ApiPath(path): ApiPath,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn url(path: &ApiPath) -> Url {
        Url::parse(&format!("http://localhost{}", path.0)).unwrap()
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for bad in ["", ".", ".."] {
            assert!(ApiPath::from("/v1/x").and(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_named_stays_one_segment(name in prop_oneof![
            any::<String>(), "[./?#%;:\\\\a2eEfF]{1,12}",
        ]) {
            prop_assume!(!matches!(name.as_str(), "" | "." | ".."));
            let path = ApiPath::from("/v1/dead-letters").and(&name).unwrap().then("/retry");
            let url = url(&path);
            prop_assert_eq!((url.query(), url.fragment()), (None, None));
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 4, "{}", url);
            prop_assert_eq!((segments[1], segments[3]), ("dead-letters", "retry"));
            let told = percent_encoding::percent_decode_str(segments[2]).decode_utf8().unwrap();
            prop_assert_eq!(told, name);
        }
    }
}
