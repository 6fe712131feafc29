//! Thousands of connections that prove nothing.
//!
//! A hostile peer here keeps a number of connections, and makes a new one for each that is closed.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::{interval, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};

use crate::support::eventually;

/// What they do, once connected.
#[derive(Clone)]
pub(super) enum Sort {
    /// A handshake, and a request that is refused every some seconds.
    Idle,
    /// The first half of a handshake.
    Half(Vec<u8>),
    /// A request to this path whose body never comes to its end; several on HTTP/2.
    SlowBody(String),
    /// Not a word: for those who are not let in at all.
    Silent,
    /// A request without TLS and without a PROXY header.
    Bare,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Half(_) => "half",
            Self::SlowBody(_) => "slow body",
            Self::Silent => "silent",
            Self::Bare => "bare",
        })
    }
}

/// Keeps the connections until it is dropped.
pub(super) struct Attack {
    /// On a thread of its own, beside that of those who mean well.
    runtime: Option<Runtime>,
    count: usize,
    made: Arc<AtomicUsize>,
}

/// As many descriptors as the system gives to a test.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a higher limit");
}

impl Attack {
    /// `count` connections, from this many `addresses` beginning with 127.0.0.`first`.
    pub(super) fn begin(
        to: SocketAddr,
        sort: &Sort,
        count: usize,
        (first, addresses): (u8, usize),
        tls: &Arc<ClientConfig>,
    ) -> Self {
        let made = Arc::new(AtomicUsize::new(0));
        // Not more at a time than a machine with few cores can make.
        let making = Arc::new(Semaphore::new(64));
        let builder = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = builder.expect("a runtime");
        for number in 0..count {
            let last = first + u8::try_from(number % addresses).expect("a loopback range");
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
            let (sort, tls) = (sort.clone(), Arc::clone(tls));
            let (made, making) = (Arc::clone(&made), Arc::clone(&making));
            runtime.handle().spawn(async move {
                let mut first = true;
                loop {
                    let connected = async {
                        let _making = making.acquire().await.expect("it is never closed");
                        begin(from, to, &sort, &tls).await
                    };
                    let connected = connected.await;
                    if std::mem::take(&mut first) {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some(held) = connected {
                        held.hold().await;
                    }
                    // Whoever is thrown out comes again, and not all at the same moment.
                    let spread = u64::try_from(number % 5000).expect("small");
                    sleep(Duration::from_millis(5000 + spread)).await;
                }
            });
        }
        Self { runtime: Some(runtime), count, made }
    }

    /// Waits until all connections were made at least once. How long that takes is a matter of the
    /// machine, but it must go on.
    pub(super) async fn whole(&self) {
        let mut made = 0;
        while made < self.count {
            made = eventually("more of the attack", || async {
                Some(self.made.load(Ordering::Relaxed)).filter(|now| *now > made)
            })
            .await;
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

enum Held {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, bool),
}

impl Held {
    /// Until the other end closes it.
    async fn hold(self) {
        let mut rest = [0; 512];
        match self {
            Self::Plain(mut stream) => while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {},
            Self::Tls(mut stream, asks) => {
                let mut tick = interval(Duration::from_secs(3));
                loop {
                    tokio::select! {
                        read = stream.read(&mut rest) => {
                            if !read.is_ok_and(|n| n > 0) {
                                return;
                            }
                        }
                        () = async { tick.tick().await; }, if asks => {
                            if stream.write_all(ASK).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn begin(
    from: SocketAddr,
    to: SocketAddr,
    sort: &Sort,
    tls: &Arc<ClientConfig>,
) -> Option<Held> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind(from).ok()?;
    let mut stream = socket.connect(to).await.ok()?;
    let shaken = async |stream: TcpStream| {
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.ok()
    };
    match sort {
        Sort::Silent => Some(Held::Plain(stream)),
        Sort::Bare => {
            stream.write_all(ASK).await.ok()?;
            Some(Held::Plain(stream))
        }
        Sort::Half(hello) => {
            stream.write_all(hello).await.ok()?;
            Some(Held::Plain(stream))
        }
        Sort::Idle => Some(Held::Tls(Box::new(shaken(stream).await?), true)),
        Sort::SlowBody(head) => {
            let mut stream = shaken(stream).await?;
            stream.write_all(head.as_bytes()).await.ok()?;
            Some(Held::Tls(Box::new(stream), false))
        }
    }
}

/// The first message of a handshake, whole: the server answers with a signature, and waits.
pub(super) fn client_hello(tls: &Arc<ClientConfig>) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let connection = tokio_rustls::rustls::ClientConnection::new(Arc::clone(tls), name);
    let mut hello = Vec::new();
    connection.expect("a client").write_tls(&mut hello).expect("bytes");
    hello
}

/// A connection under TLS from this address.
pub(super) async fn connected(
    (from, to): ([u8; 4], SocketAddr),
    tls: Arc<ClientConfig>,
) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("a loopback address");
    let stream = socket.connect(to).await.expect("a connection");
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(tls).connect(name, stream).await.expect("TLS")
}

/// What comes back to these bytes over TLS, until the connection ends.
pub(super) async fn answer_to(
    ends: ([u8; 4], SocketAddr),
    request: String,
    tls: Arc<ClientConfig>,
) -> String {
    let mut stream = connected(ends, tls).await;
    // The answer can come before all was sent.
    stream.write_all(request.as_bytes()).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}
