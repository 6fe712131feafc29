//! Serving HTTP on sockets: accepting, TLS, time-outs, limits, and ending well.
//!
//! Owns connections. Knows nothing of what is served: hooks, the admin API and the simulator each
//! bring a [`Service`].

pub mod answer;
pub mod bodies;
pub mod body;
mod conduct;
mod connection;
mod door;
pub mod headers;
pub mod host;
mod lobby;
pub mod proxy;
mod service;
mod slots;
pub mod tls;

use std::{io, sync::Arc};

use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    body::RequestBody,
    conduct::Proof,
    door::{AllowFn, Door, Unproven},
    lobby::Socket,
    service::{Answer, Gauges, Limits, Peer, Service, TurnedAway},
};

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
        let lobby = Arc::new(lobby::Lobby::new(&self.limits, &self.gauges));
        let shared = Arc::new(connection::Shared {
            tls: self.tls,
            limits: self.limits,
            service: self.service,
            gauges: self.gauges,
            lobby,
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
    let stop = shared.stop.clone();
    while let Some(accepted) = stop.run_until_cancelled(shared.lobby.next(&socket)).await {
        connections.spawn(connection::serve(accepted, Arc::clone(&shared)));
    }
}

#[cfg(test)]
mod tests;
