//! An Altinn stand-in: Maskinporten, the token exchange and Altinn Events behind one listener.
//!
//! It is the other side of the wire, so it shares no code with the client: it refuses what Altinn
//! refuses, with Altinn's statuses and bodies, and pushes as Altinn does. `docs/SIMULATOR.md` says
//! how to use it.

mod answers;
mod auth;
pub mod ca;
mod control;
mod events;
pub mod options;
mod routes;
mod services;
mod state;
mod times;
pub mod workspace;

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{options::Options, routes::Routes, state::State};
use crate::server::{Gauges, Limits, Server, Socket};

const LIMITS: Limits = Limits {
    max_connections: match NonZeroUsize::new(512) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    },
    handshake_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_secs(60),
};

/// The stand-in.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Binds and serves until it is stopped.
    pub async fn start(options: Options) -> anyhow::Result<Running> {
        ensure!(options.listen.ip().is_loopback(), "the simulator listens on loopback only");
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://{address}");
        let tls = options.tls.clone();
        let state = Arc::new(State::new(options, base_url.clone())?);
        let server = Server {
            sockets: vec![Socket::Tcp(listener)],
            tls,
            limits: LIMITS,
            service: Arc::new(Routes(Arc::clone(&state))),
            gauges: Gauges::default(),
        };
        let stop = state.stop.clone();
        state.tasks.spawn(async move {
            if let Err(error) = server.run(stop).await {
                tracing::error!(%error, "the simulator has stopped serving");
            }
        });
        Ok(Running { address, base_url, state })
    }
}

/// A stand-in that serves; it stops when this is dropped.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The platform's URL, without a slash at the end.
    pub base_url: String,
    state: Arc<State>,
}

impl Running {
    /// Maskinporten's issuer identifier, with its slash.
    pub fn maskinporten_issuer(&self) -> String {
        self.state.issuer()
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.state.options
    }

    /// Cancel this to stop it.
    pub fn stopping(&self) -> CancellationToken {
        self.state.stop.clone()
    }

    /// Stops it, and waits until requests and pushes have ended.
    pub async fn stop(self) {
        self.state.stop.cancel();
        self.state.tasks.close();
        self.state.tasks.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
