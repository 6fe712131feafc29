//! Connections to subscribers, kept for the next push as .NET's `SocketsHttpHandler` keeps them.
//!
//! Owns which one is used: the last that was idle, for a minute, if its peer has not closed it. A
//! push that meets the peer's close on its way fails: .NET sends no body twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode, header::LOCATION};
use http_body_util::{BodyExt, Full};
use hyper::{
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use url::Url;

/// .NET closes a connection that was idle for longer.
const IDLE: Duration = Duration::from_secs(60);
/// Idle ones to one endpoint: no more pushes run at once.
const KEPT: usize = 24;

/// The idle ones, by where they lead.
pub(super) struct Connections {
    tls: TlsConnector,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
    _driver: JoinSet<()>,
}

impl Connections {
    pub(super) fn new(tls: TlsConnector) -> Self {
        Self { tls, idle: Mutex::default() }
    }

    /// Sends; `stale` takes an idle connection whatever its peer has done to it. Headers and body of
    /// the answer must come; what the body says does not matter.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        stale: bool,
    ) -> anyhow::Result<(StatusCode, Option<String>)> {
        let place = format!("{}://{}", url.scheme(), host(url)?);
        let mut connection = match self.take(&place, stale) {
            Some(connection) => connection,
            None => self.open(url).await?,
        };
        let mut answer = connection.sender.send_request(request).await?;
        while let Some(frame) = answer.body_mut().frame().await {
            frame?;
        }
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let told = (answer.status(), location.map(str::to_owned));
        if connection.sender.ready().await.is_ok() {
            connection.since = Instant::now();
            self.keep(place, connection);
        }
        Ok(told)
    }

    fn take(&self, place: &str, stale: bool) -> Option<Connection> {
        let mut idle = self.idle();
        let kept = idle.get_mut(place)?;
        kept.retain(|one| one.since.elapsed() < IDLE && (stale || !one.sender.is_closed()));
        kept.pop()
    }

    fn keep(&self, place: String, connection: Connection) {
        let mut idle = self.idle();
        let kept = idle.entry(place).or_default();
        if kept.len() < KEPT {
            kept.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an idle connection leads there that still stands.
    #[cfg(test)]
    pub(super) fn has_open(&self, url: &str) -> bool {
        let idle = self.idle();
        let leads = |place: &&String| url.starts_with(place.as_str());
        let mut there = idle.iter().filter(|(place, _)| leads(place)).flat_map(|(_, kept)| kept);
        there.any(|one| !one.sender.is_closed())
    }

    async fn open(&self, url: &Url) -> anyhow::Result<Connection> {
        let (name, stream) = connect(url).await?;
        if url.scheme() == "https" {
            let stream = self.tls.connect(name, stream).await.context("TLS")?;
            begin(TokioIo::new(stream)).await
        } else {
            begin(TokioIo::new(stream)).await
        }
    }
}

async fn begin<I: Read + Write + Unpin + Send + 'static>(io: I) -> anyhow::Result<Connection> {
    let (sender, connection) = http1::Builder::new().title_case_headers(true).handshake(io).await?;
    // How it ends is told to who sends on it.
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    Ok(Connection { sender, since: Instant::now(), _driver: driver })
}

/// A connection, and the name that its certificate must have.
pub(super) async fn connect(url: &Url) -> anyhow::Result<(ServerName<'static>, TcpStream)> {
    let host = url.host_str().context("no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().context("no port")?;
    let stream = TcpStream::connect((bare, port)).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok((ServerName::try_from(bare.to_owned())?, stream))
}

pub(super) fn host(url: &Url) -> anyhow::Result<String> {
    let host = url.host_str().context("no host")?;
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}
