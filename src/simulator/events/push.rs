//! One push over the wire, as .NET's `HttpClient` makes it: HTTP/1.1, three headers, strict TLS,
//! redirects followed, connections kept.

mod connections;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use http_body_util::Full;
use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject},
    },
};
use url::Url;

use self::connections::{Connections, connect, host};
use crate::simulator::options::{Engine, Options};

/// Never less than this, however fast the time runs: the receiver's disk does not scale.
const SHORTEST: Duration = Duration::from_secs(5);
/// So long an answer is left unread.
const UNREAD: Duration = Duration::from_millis(500);
/// .NET follows so many redirects.
const REDIRECTS: usize = 50;

/// Pushes.
pub(in crate::simulator) struct Pusher {
    tls: TlsConnector,
    connections: Connections,
    limit: Duration,
}

/// Where an attempt breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulator) enum Break {
    /// Half of the body is sent.
    InBody,
    /// All is sent, nothing is read.
    AfterBody,
    /// All is sent, and the answer is left lying.
    Unread,
}

/// Where a redirect leads.
enum Step {
    Done(StatusCode),
    Follow(Method, Url),
}

impl Pusher {
    /// Trusts `options.push_ca` and nothing else.
    pub(in crate::simulator) fn new(options: &Options) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(options.push_ca.as_bytes()) {
            let certificate = certificate.map_err(|error| anyhow!("not a CA in PEM: {error}"))?;
            roots.add(certificate).context("a CA that cannot be trusted")?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let limit = match options.engine {
            Engine::A => Duration::from_secs(300),
            Engine::B => Duration::from_secs(45),
        };
        let limit = options.scaled(limit).max(SHORTEST);
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { connections: Connections::new(tls.clone()), tls, limit })
    }

    /// Posts `body`; the final status, or what went wrong. `stale` does not look whether a kept
    /// connection still stands.
    pub(in crate::simulator) async fn post(
        &self,
        endpoint: &str,
        body: &str,
        stale: bool,
    ) -> Result<u16, String> {
        match timeout(self.limit, self.follow(endpoint, body, stale)).await {
            Ok(Ok(status)) => Ok(status.as_u16()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("timeout".to_owned()),
        }
    }

    async fn follow(&self, endpoint: &str, body: &str, stale: bool) -> anyhow::Result<StatusCode> {
        let mut url = Url::parse(endpoint).context("not a URL")?;
        let mut method = Method::POST;
        for _ in 0..=REDIRECTS {
            let body = if method == Method::POST { body.to_owned() } else { String::new() };
            let request = request(&method, &url, Bytes::from(body))?;
            let (status, location) = self.connections.send(&url, request, stale).await?;
            match step(status, location.as_deref(), &method, &url) {
                Step::Done(status) => return Ok(status),
                Step::Follow(next_method, next_url) => (method, url) = (next_method, next_url),
            }
        }
        Err(anyhow!("too many redirects"))
    }

    /// Posts and breaks off; the error is Altinn's.
    pub(in crate::simulator) async fn break_off(
        &self,
        endpoint: &str,
        body: &str,
        how: Break,
    ) -> Result<u16, String> {
        match timeout(self.limit, self.broken(endpoint, body, how)).await {
            Ok(Ok(())) => Err("the connection was broken off on purpose".to_owned()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("timeout".to_owned()),
        }
    }

    async fn broken(&self, endpoint: &str, body: &str, how: Break) -> anyhow::Result<()> {
        let url = Url::parse(endpoint).context("not a URL")?;
        let (name, stream) = connect(&url).await?;
        let mut stream = self.tls.connect(name, stream).await.context("TLS")?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n",
            target(&url),
            host(&url)?,
            body.len()
        );
        let sent = match how {
            Break::InBody => body.get(..body.len() / 2).unwrap_or_default(),
            Break::AfterBody | Break::Unread => body,
        };
        stream.write_all(format!("{head}{sent}").as_bytes()).await?;
        stream.flush().await?;
        if how == Break::Unread {
            sleep(UNREAD).await;
        }
        Ok(())
    }
}

/// .NET's rules: 300 to 303 turn a POST into a GET without a body, 307 and 308 keep it, and https
/// is never left for http.
fn step(status: StatusCode, location: Option<&str>, method: &Method, url: &Url) -> Step {
    let next = location.and_then(|location| url.join(location).ok());
    let next = next.filter(|next| next.scheme() == "https" || url.scheme() == "http");
    match (status.as_u16(), next) {
        (300..=303, Some(next)) => Step::Follow(Method::GET, next),
        (307 | 308, Some(next)) => Step::Follow(method.clone(), next),
        _ => Step::Done(status),
    }
}

fn target(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn request(method: &Method, url: &Url, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(target(url)).header(HOST, host(url)?);
    if method == Method::POST {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        request = request.header(CONTENT_TYPE, json);
    }
    Ok(request.body(Full::new(body))?)
}

#[cfg(test)]
mod tests;
