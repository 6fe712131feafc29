//! Serving HTTP on sockets: accepting, TLS, time-outs, limits, and ending well.
//!
//! Owns connections. Knows nothing of what is served: hooks, the admin API and the simulator each
//! bring a [`Service`].

pub mod answer;
pub mod body;
mod connection;
pub mod proxy;
pub mod tls;

use std::{future::Future, io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::network::Network;

/// How long to wait after a failed accept: out of file descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; further ones wait in the kernel's backlog.
    pub max_connections: NonZeroUsize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head, and for a connection without a request; an answer may take twice
    /// this before the peer gets 503.
    pub request_timeout: Duration,
}

/// Where connections come from.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// TCP, where each connection begins with a PROXY protocol header.
    Proxied {
        /// Where proxies connect to.
        listener: TcpListener,
        /// The proxies; connections from elsewhere are closed.
        from: Arc<[Network]>,
    },
    /// A Unix socket.
    Unix(UnixListener),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// `None` on a Unix socket; on a proxied one the address that the proxy told.
    pub address: Option<SocketAddr>,
}

/// An answer; all of ours are small and whole, so that each has a Content-Length.
pub type Answer = http::Response<Full<Bytes>>;

/// What is served.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropped when the peer goes away.
    fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Answer> + Send;
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Open connections.
    pub open: Gauge,
    /// Connections that ended before a request.
    pub failed: Counter,
}

/// A service on its sockets.
#[derive(Debug)]
pub struct Server<S> {
    /// All are served alike.
    pub sockets: Vec<Socket>,
    /// `None` for plain HTTP/1.1.
    pub tls: Option<Arc<ServerConfig>>,
    /// What a peer may take.
    pub limits: Limits,
    /// What is served.
    pub service: Arc<S>,
    /// What is counted.
    pub gauges: Gauges,
}

impl<S: Service> Server<S> {
    /// Serves until `stop`; then accepts no more, lets requests in flight finish, and returns.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let shared = Arc::new(connection::Shared {
            slots: Arc::new(Semaphore::new(self.limits.max_connections.get())),
            tls: self.tls.map(TlsAcceptor::from),
            limits: self.limits,
            service: self.service,
            gauges: self.gauges,
            stop,
        });
        let connections = TaskTracker::new();
        let mut loops = JoinSet::new();
        for socket in self.sockets {
            loops.spawn(accept_all(socket, Arc::clone(&shared), connections.clone()));
        }
        while let Some(ended) = loops.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

/// Accepts until it is time to stop; the listening socket closes when this returns.
async fn accept_all<S: Service>(
    socket: Socket,
    shared: Arc<connection::Shared<S>>,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_the_peers(&error) {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let slot = tokio::select! {
            () = shared.stop.cancelled() => return,
            slot = Arc::clone(&shared.slots).acquire_owned() => slot,
        };
        // The semaphore is never closed, so this is always a slot.
        let Ok(slot) = slot else { return };
        connections.spawn(connection::serve(stream, peer, Arc::clone(&shared), slot));
    }
}

/// The peer went away before it was accepted: its fault, and no reason to pause.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

impl Socket {
    async fn accept(&self) -> io::Result<(connection::Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((connection::Stream::Tcp(stream), Peer { address: Some(address) }))
            }
            Self::Proxied { listener, from } => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = connection::Stream::Proxied(stream, Arc::clone(from));
                Ok((stream, Peer { address: Some(address) }))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((connection::Stream::Unix(stream), Peer { address: None }))
            }
        }
    }
}

#[cfg(test)]
mod tests;
