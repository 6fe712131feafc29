//! One connection: its handshake, its requests, its idle time, its end.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{StatusCode, header};
use hyper::{
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    answer,
    proxy::{self, ProxyError},
    service::{Answer, Gauges, Limits, Peer, Service},
};
use crate::network::{self, Network};

/// A connection that is told to end may take this long over it.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const MAX_HEAD: u32 = 32 * 1024;
/// Requests at the same time on one HTTP/2 connection; also bounds what a peer can make us buffer.
const MAX_STREAMS: u32 = 64;
/// Bytes of bodies that one HTTP/2 connection may have under way.
const WINDOW: u32 = 256 * 1024;

/// What all connections of a server share.
pub(super) struct Shared<S> {
    pub(super) slots: Arc<Semaphore>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) service: Arc<S>,
    pub(super) gauges: Gauges,
    pub(super) stop: CancellationToken,
}

/// A connection as it was accepted.
pub(super) enum Stream {
    Tcp(TcpStream),
    /// Begins with a PROXY header, if it comes from one of these.
    Proxied(TcpStream, Arc<[Network]>),
    Unix(UnixStream),
}

/// Counts a connection while it lives.
struct Open(Gauges);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// Serves one connection to its end; holds its slot as long.
pub(super) async fn serve<S: Service>(
    stream: Stream,
    peer: Peer,
    shared: Arc<Shared<S>>,
    slot: OwnedSemaphorePermit,
) {
    shared.gauges.open.inc();
    let _open = Open(shared.gauges.clone());
    match stream {
        Stream::Unix(stream) => http1(stream, peer, &shared).await,
        Stream::Tcp(stream) => tcp(stream, peer, &shared).await,
        Stream::Proxied(mut stream, from) => {
            if let Some(peer) = behind(&mut stream, peer, &from, &shared).await {
                tcp(stream, peer, &shared).await;
            }
        }
    }
    drop(slot);
}

async fn tcp<S: Service>(stream: TcpStream, peer: Peer, shared: &Arc<Shared<S>>) {
    match shared.tls.clone() {
        None => http1(stream, peer, shared).await,
        Some(acceptor) => tls(acceptor, stream, peer, shared).await,
    }
}

/// Who is behind the proxy; `None` if the connection is to be closed.
async fn behind<S: Service>(
    stream: &mut TcpStream,
    proxy: Peer,
    from: &[Network],
    shared: &Arc<Shared<S>>,
) -> Option<Peer> {
    let known = proxy.address.is_some_and(|address| network::any_contains(from, address.ip()));
    let header = async {
        if known {
            proxy::read(stream).await
        } else {
            Err(ProxyError::Malformed("no proxy of ours"))
        }
    };
    let header = tokio::select! {
        () = shared.stop.cancelled() => return None,
        header = timeout(shared.limits.handshake_timeout, header) => header,
    };
    match header {
        Ok(Ok(told)) => Some(Peer { address: told.or(proxy.address) }),
        Ok(Err(error)) => {
            shared.gauges.failed.inc();
            tracing::debug!(peer = ?proxy.address, %error, "no PROXY header");
            None
        }
        Err(_) => {
            shared.gauges.failed.inc();
            tracing::debug!(peer = ?proxy.address, "the PROXY header took too long");
            None
        }
    }
}

async fn tls<S: Service>(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: Peer,
    shared: &Arc<Shared<S>>,
) {
    let handshake = timeout(shared.limits.handshake_timeout, acceptor.accept(stream));
    let stream = tokio::select! {
        () = shared.stop.cancelled() => return,
        result = handshake => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                shared.gauges.failed.inc();
                tracing::debug!(peer = ?peer.address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                shared.gauges.failed.inc();
                tracing::debug!(peer = ?peer.address, "TLS handshake took too long");
                return;
            }
        },
    };
    // ALPN decides; sniffing the first bytes would be a wait without a time-out.
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(stream, peer, shared).await;
    } else {
        http1(stream, peer, shared).await;
    }
}

/// Drives a connection of either protocol: until it ends, is idle too long, or is told to stop.
macro_rules! drive {
    ($connection:expr, $shared:expr, $requests:expr) => {{
        let mut connection = pin!($connection);
        let mut idle = pin!(idle($requests.subscribe(), $shared.limits.request_timeout));
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => break ended(result),
                () = $shared.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = idle.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    // Too late, or told in time: the connection ends either way.
                    break drop(timeout(FAREWELL, connection.as_mut()).await);
                }
            }
        }
    }};
}

async fn http1<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    shared: &Arc<Shared<S>>,
) {
    let requests = Arc::new(watch::Sender::new(0_usize));
    let service = service_fn(|request| answer_one(request, peer, shared, &requests));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.request_timeout)
        .max_buf_size(usize::try_from(MAX_HEAD).unwrap_or(usize::MAX))
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    drive!(connection, shared, requests);
}

async fn http2<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    shared: &Arc<Shared<S>>,
) {
    let requests = Arc::new(watch::Sender::new(0_usize));
    let counted = Arc::clone(&requests);
    let owned = Arc::clone(shared);
    let service = service_fn(move |request| {
        let (shared, requests) = (Arc::clone(&owned), Arc::clone(&counted));
        async move { answer_one(request, peer, &shared, &requests).await }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW / 2)
        .keep_alive_interval(shared.limits.request_timeout)
        .keep_alive_timeout(shared.limits.request_timeout)
        .serve_connection(TokioIo::new(stream), service);
    drive!(connection, shared, requests);
}

/// Returns once no request has been under way for `bound`, counted anew after each.
async fn idle(mut requests: watch::Receiver<usize>, bound: Duration) {
    loop {
        if requests.wait_for(|under_way| *under_way == 0).await.is_err() {
            return;
        }
        match timeout(bound, requests.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Counts a request while it is under way.
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn begin(requests: &Arc<watch::Sender<usize>>) -> Self {
        requests.send_modify(|under_way| *under_way += 1);
        Self(Arc::clone(requests))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|under_way| *under_way -= 1);
    }
}

async fn answer_one<S: Service>(
    request: http::Request<Incoming>,
    peer: Peer,
    shared: &Arc<Shared<S>>,
    requests: &Arc<watch::Sender<usize>>,
) -> Result<Answer, Infallible> {
    let _under_way = UnderWay::begin(requests);
    let answer = timeout(shared.limits.request_timeout * 2, shared.service.answer(request, peer));
    let answer = answer.await;
    Ok(with_length(answer.unwrap_or_else(|_| answer::empty(StatusCode::SERVICE_UNAVAILABLE))))
}

/// hyper leaves the length out of an empty HTTP/2 answer; all of ours tell it (RFC 9110 section
/// 8.6 forbids it with 204).
fn with_length(mut answer: Answer) -> Answer {
    let length = answer.body().size_hint().exact();
    if let Some(length) = length.filter(|_| answer.status() != StatusCode::NO_CONTENT) {
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    answer
}

fn ended(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}
