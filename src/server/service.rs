//! What is served on a connection, to whom, and how much of it a peer may take.

use std::{future::Future, net::SocketAddr, num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::body::RequestBody;

/// What a peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time. A further one takes the slot of one that has proved nothing,
    /// or is idle; if all are in use by requests it waits in the kernel's backlog.
    pub max_connections: NonZeroUsize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head, and for a connection without a request; an answer may take twice
    /// this before the peer gets 503.
    pub request_timeout: Duration,
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
        request: http::Request<RequestBody>,
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
    /// Connections that were closed for what they are or take.
    pub turned_away: TurnedAway,
}

/// Connections that were closed for what they are or take, by the reason.
#[derive(Debug, Clone, Default)]
pub struct TurnedAway {
    /// For another one, since all slots were taken.
    pub full: Counter,
    /// For another one of the same peer, or because its share is in use by requests.
    pub share: Counter,
    /// From outside the list of who may connect.
    pub not_allowed: Counter,
    /// Without a PROXY header where one is needed.
    pub no_proxy_header: Counter,
    /// Too old without a proof.
    pub age: Counter,
    /// Too many requests without a proof.
    pub requests: Counter,
    /// Too many refusals without a proof.
    pub refusals: Counter,
}
