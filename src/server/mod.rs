//! Serving HTTP on sockets: accepting, TLS, time-outs, limits, and ending well.
//!
//! Owns connections. Knows nothing of what is served: hooks, the admin API and the simulator each
//! bring a [`Service`].

pub mod answer;
pub mod body;
mod connection;
pub mod headers;
pub mod proxy;
mod service;
pub mod tls;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::service::{Answer, Gauges, Limits, Peer, Service};
use crate::network::Network;

/// How long to wait after a failed accept: out of file descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
