//! One connection: its handshake, its requests, its idle time, its end.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    answer, body,
    conduct::{Conduct, Noticed},
    door::Door,
    host,
    lobby::{Accepted, Lobby, Stream},
    proxy,
    service::{Answer, Gauges, Limits, Peer, Service},
    tls,
};
use crate::network::Network;

/// Bytes of a request's head.
const MAX_HEAD: u32 = 16 * 1024;
/// Requests at the same time on one HTTP/2 connection. Their heads are in memory before anyone has
/// proved anything.
const MAX_STREAMS: u32 = 32;
/// Bytes of bodies that one HTTP/2 connection may have sent and nobody has read: the least that the
/// protocol knows for a connection.
const WINDOW: u32 = 64 * 1024 - 1;

/// What all connections of a server share.
pub(super) struct Shared<S> {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limits: Limits,
    pub(super) service: Arc<S>,
    pub(super) gauges: Gauges,
    pub(super) lobby: Arc<Lobby>,
    pub(super) stop: CancellationToken,
}

/// Counts a connection while it lives.
struct Open(Gauges);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// Serves one connection to its end; holds its slot as long.
pub(super) async fn serve<S: Service>(accepted: Accepted, shared: Arc<Shared<S>>) {
    let Accepted { stream, peer, slot, there } = accepted;
    shared.gauges.open.inc();
    let _open = Open(shared.gauges.clone());
    let conduct = Arc::clone(&slot.0);
    let whole = async {
        match stream {
            Stream::Unix(stream) => http1(stream, peer, &conduct, &shared).await,
            Stream::Tcp(stream) => tcp(stream, peer, &conduct, &shared).await,
            Stream::Proxied(mut stream, door) => {
                if let Some(peer) = behind(&mut stream, peer, (&door, &conduct), &shared).await {
                    tcp(stream, peer, &conduct, &shared).await;
                }
            }
        }
    };
    // First whether it has to go: then nothing more is done for it.
    tokio::select! {
        biased;
        () = conduct.told.gone.cancelled() => {}
        () = whole => {}
    }
    drop((slot, there));
}

async fn tcp<S: Service>(
    stream: TcpStream,
    peer: Peer,
    conduct: &Arc<Conduct>,
    shared: &Arc<Shared<S>>,
) {
    let stream = Noticed::new(stream, conduct);
    match shared.tls.clone() {
        None => http1(stream, peer, conduct, shared).await,
        Some(config) => encrypted((config, stream), peer, conduct, shared).await,
    }
}

/// Who is behind the proxy; `None` if the connection is to be closed.
async fn behind<S: Service>(
    stream: &mut TcpStream,
    proxy: Peer,
    (door, conduct): (&Door, &Arc<Conduct>),
    shared: &Arc<Shared<S>>,
) -> Option<Peer> {
    let header = tokio::select! {
        () = shared.stop.cancelled() => return None,
        header = timeout(shared.limits.handshake_timeout, proxy::read(stream)) => header,
    };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    let told = match header.unwrap_or_else(late) {
        Ok(told) => told,
        Err(error) => {
            shared.gauges.failed.inc();
            shared.lobby.no_proxy_header(proxy, &error);
            return None;
        }
    };
    let Some(address) = told else { return Some(proxy) };
    let holder = Some(Network::of_one_peer(address.ip()));
    if conduct.belongs_to(holder, door.share.get()).is_err() {
        shared.lobby.share_is_used_up(holder);
        return None;
    }
    Some(Peer { address: told })
}

async fn encrypted<S: Service>(
    (config, stream): (Arc<ServerConfig>, Noticed<TcpStream>),
    peer: Peer,
    conduct: &Arc<Conduct>,
    shared: &Arc<Shared<S>>,
) {
    let handshake = shake(config, stream, conduct, shared);
    let handshake = timeout(shared.limits.handshake_timeout, handshake);
    let stream = tokio::select! {
        () = shared.stop.cancelled() => return,
        result = handshake => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                shared.gauges.failed.inc();
                let peer = peer.address.map(tracing::field::display);
                let why = tls::fault_in_words(&error);
                tracing::debug!(peer, why, "a TLS handshake failed");
                return;
            }
            Err(_) => {
                shared.gauges.failed.inc();
                let peer = peer.address.map(tracing::field::display);
                tracing::debug!(peer, "a TLS handshake took too long");
                return;
            }
        },
    };
    conduct.got_on();
    // ALPN decides; sniffing the first bytes would be a wait without a time-out.
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(stream, peer, conduct, shared).await;
    } else {
        http1(stream, peer, conduct, shared).await;
    }
}

/// The handshake. Its dear part waits for its turn: the answer to the first message.
async fn shake<S>(
    config: Arc<ServerConfig>,
    stream: Noticed<TcpStream>,
    conduct: &Arc<Conduct>,
    shared: &Arc<Shared<S>>,
) -> io::Result<TlsStream<Noticed<TcpStream>>> {
    stream.readable().await?;
    let turn = shared.lobby.turns.turn(conduct.id).await;
    let mut handshake = Box::pin(TlsAcceptor::from(config).accept(stream));
    let answer = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
    drop(turn);
    match answer {
        Poll::Ready(whole) => whole,
        Poll::Pending => handshake.await,
    }
}

/// Drives a connection of either protocol: until it ends, is idle too long, has had enough, or is
/// told to stop.
macro_rules! drive {
    ($connection:expr, $shared:expr, $conduct:expr, $requests:expr) => {{
        let mut connection = pin!($connection);
        let idle = idle($requests.subscribe(), $shared.limits.request_timeout);
        let mut end = pin!($conduct.end(idle));
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => break ended(result),
                () = $shared.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                patience = end.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    // Too late, or told in time: the connection ends either way.
                    break drop(timeout(patience, connection.as_mut()).await);
                }
            }
        }
    }};
}

async fn http1<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    conduct: &Arc<Conduct>,
    shared: &Arc<Shared<S>>,
) {
    let requests = Arc::new(watch::Sender::new(0_usize));
    let own = (conduct, &requests);
    let service = service_fn(|request| answer_one(request, peer, own, shared));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.request_timeout)
        .max_buf_size(usize::try_from(MAX_HEAD).unwrap_or(usize::MAX))
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    drive!(connection, shared, conduct, requests);
}

async fn http2<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    conduct: &Arc<Conduct>,
    shared: &Arc<Shared<S>>,
) {
    let requests = Arc::new(watch::Sender::new(0_usize));
    let counted = Arc::clone(&requests);
    let (owned, own) = (Arc::clone(shared), Arc::clone(conduct));
    let service = service_fn(move |request| {
        let (shared, requests) = (Arc::clone(&owned), Arc::clone(&counted));
        let conduct = Arc::clone(&own);
        async move { answer_one(request, peer, (&conduct, &requests), &shared).await }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(shared.limits.request_timeout)
        .keep_alive_timeout(shared.limits.request_timeout)
        .serve_connection(TokioIo::new(stream), service);
    drive!(connection, shared, conduct, requests);
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
    (conduct, requests): (&Arc<Conduct>, &Arc<watch::Sender<usize>>),
    shared: &Arc<Shared<S>>,
) -> Result<Answer, Infallible> {
    let _under_way = UnderWay::begin(requests);
    let _asking = conduct.asks();
    let (version, is_head) = (request.version(), request.method() == Method::HEAD);
    let last = is_last(request.headers(), version);
    let (mut request, rest) = body::lent(request);
    let answer = if let Some(fault) = host::fault(&request) {
        // With it goes the body, to be read on or not.
        drop(request);
        answer::text(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", fault)
    } else {
        request.extensions_mut().insert(conduct.proof());
        let answer = shared.service.answer(request, peer);
        let answer = timeout(shared.limits.request_timeout * 2, answer).await;
        answer.unwrap_or_else(|_| answer::empty(StatusCode::SERVICE_UNAVAILABLE))
    };
    let read = rest.discard().await;
    let mut answer = with_length(answer);
    if is_head {
        *answer.body_mut() = Full::default();
    }
    let enough = conduct.answered(answer.status(), version);
    let ends = last || enough || !read || conduct.is_ending() || shared.stop.is_cancelled();
    if ends && version <= Version::HTTP_11 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// Whether the peer wants no other answer on this connection.
fn is_last(headers: &HeaderMap, version: Version) -> bool {
    let names = |name: &[u8]| {
        let mut values = headers.get_all(header::CONNECTION).iter();
        values.any(|value| {
            let mut options = value.as_bytes().split(|byte| *byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name))
        })
    };
    if version < Version::HTTP_11 { !names(b"keep-alive") } else { names(b"close") }
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
