use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use super::Pusher;
use crate::simulator::{
    ca::Ca,
    tests::{credentials, options, subscriber},
};

const BODY: &str = r#"{"specversion":"1.0"}"#;

#[tokio::test]
async fn a_redirect_that_dotnet_makes_a_get_counts_as_delivered_without_the_body() {
    let pusher = Pusher::new(&options()).unwrap();
    for (status, method, body) in [
        (300, "GET", ""),
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", BODY),
        (308, "POST", BODY),
    ] {
        let subscriber = subscriber(&credentials().ca).await;
        subscriber.script.then(status, Some("/elsewhere"));
        let end = pusher.post(&format!("{}/hook", subscriber.url), BODY, false).await;
        assert_eq!(end, Ok(200), "{status}");
        let seen = subscriber.script.seen();
        let last = &seen[1];
        assert_eq!((last.method.as_str(), last.body.as_str()), (method, body), "{status}");
        assert_eq!(last.target, "/elsewhere", "{status}");
    }
}

#[tokio::test]
async fn a_redirect_to_plain_http_or_nowhere_is_the_end() {
    let pusher = Pusher::new(&options()).unwrap();
    for location in [Some("http://localhost:1/"), None] {
        let subscriber = subscriber(&credentials().ca).await;
        subscriber.script.then(307, location);
        assert_eq!(pusher.post(&subscriber.url, BODY, false).await, Ok(307), "{location:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let pusher = Pusher::new(&options()).unwrap();
    let subscriber = subscriber(&Ca::new().unwrap()).await;
    let error = pusher.post(&subscriber.url, BODY, false).await.unwrap_err();
    assert!(error.starts_with("TLS"), "{error}");
    assert!(subscriber.script.seen().is_empty());
}

#[tokio::test]
async fn a_connection_is_used_again_until_its_peer_closes_it() {
    let subscriber = Raw::start().await;
    let pusher = Pusher::new(&options()).unwrap();
    let push = async || pusher.post(&subscriber.url, BODY, false).await;
    assert_eq!((push().await, push().await, push().await), (Ok(200), Ok(200), Ok(200)));
    assert_eq!(subscriber.connections(), 1);
    subscriber.close().await;
    // It is seen as soon as the peer's end has come.
    let seen = async || {
        while pusher.connections.has_open(&subscriber.url) {
            tokio::task::yield_now().await;
        }
    };
    seen().await;
    assert_eq!(push().await, Ok(200));
    assert_eq!(subscriber.connections(), 2);
    subscriber.close().await;
    seen().await;
    // Who does not look sends into the closed one, and fails.
    assert!(pusher.post(&subscriber.url, BODY, true).await.is_err());
    assert_eq!(push().await, Ok(200));
}

/// A subscriber of bare sockets, which shares nothing with our server.
struct Raw {
    url: String,
    connections: Arc<AtomicUsize>,
    close: Arc<Notify>,
    closed: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Raw {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (connections, close, closed) =
            <(Arc<AtomicUsize>, Arc<Notify>, Arc<Notify>)>::default();
        let (count, told, done) = (connections.clone(), close.clone(), closed.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::select! {
                    () = answer_all(stream) => {}
                    () = told.notified() => {}
                }
                done.notify_one();
            }
        });
        Self { url, connections, close, closed, _task: task }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn close(&self) {
        self.close.notify_one();
        self.closed.notified().await;
    }
}

/// Each request that has come whole gets a 200.
async fn answer_all(mut stream: TcpStream) {
    let mut seen = Vec::new();
    while stream.read_buf(&mut seen).await.is_ok_and(|count| count > 0) {
        if seen.ends_with(BODY.as_bytes()) {
            seen.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    }
}
