//! A local HTTP target that writes down what it gets and answers as it is told.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use brevdue::server::{
    Answer, Gauges, Limits, Peer, RequestBody, Server, Service, Socket, answer, body,
};
use http::{HeaderMap, Request, StatusCode, header};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::eventually;

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Received {
    /// The CloudEvent's id.
    pub(crate) fn id(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Event {
            id: String,
        }
        // The rest may be what no reader can make a value of.
        serde_json::from_str::<Event>(&self.body).expect("JSON with an id").id
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Answer(u16),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    behaviour: watch::Sender<Behaviour>,
    /// For the first attempt at an event whose id is listed here.
    first: Mutex<HashMap<String, Behaviour>>,
}

/// A running receiver; ends when dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    _tasks: JoinSet<std::io::Result<()>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            behaviour: watch::Sender::new(Behaviour::Answer(200)),
            first: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let server = Server {
            sockets: vec![Socket::Tcp(listener)],
            tls: None,
            limits: Limits {
                max_connections: 1024.try_into().expect("not zero"),
                handshake_timeout: Duration::from_secs(600),
                request_timeout: Duration::from_secs(600),
            },
            service: Arc::new(Target(Arc::clone(&shared))),
            gauges: Gauges::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Self { address, shared, stop, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// From now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// The first time that this event comes; afterwards like all.
    pub(crate) fn behave_at_first(&self, id: &str, behaviour: Behaviour) {
        self.shared.first.lock().unwrap().insert(id.to_owned(), behaviour);
    }

    /// All that came, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received_after(0)
    }

    /// What came after so many requests.
    pub(crate) fn received_after(&self, count: usize) -> Vec<Received> {
        self.shared.received.lock().unwrap().iter().skip(count).cloned().collect()
    }

    /// What came for this event.
    pub(crate) fn of(&self, id: &str) -> Vec<Received> {
        self.received().into_iter().filter(|one| one.id() == id).collect()
    }

    /// Waits until so many requests came.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} requests");
        eventually(&what, || async {
            Some(self.received()).filter(|received| received.len() >= count)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Target(Arc<Shared>);

impl Service for Target {
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
        let (head, incoming) = request.into_parts();
        let patience = Duration::from_secs(10);
        let body = body::read(incoming, 1 << 20, patience).await.expect("a whole body");
        let body = String::from_utf8(body.to_vec()).expect("UTF-8");
        let received = Received { at: Instant::now(), headers: head.headers, body };
        let first = self.0.first.lock().unwrap().remove(&received.id());
        self.0.received.lock().unwrap().push(received);
        let behaviour = first.unwrap_or(*self.0.behaviour.borrow());
        match behaviour {
            Behaviour::Answer(status) => {
                let mut told = answer::text(
                    StatusCode::from_u16(status).expect("a status"),
                    "text/plain",
                    "what the handler said",
                );
                if told.status().is_redirection() {
                    let elsewhere = http::HeaderValue::from_static("/elsewhere");
                    told.headers_mut().insert(header::LOCATION, elsewhere);
                }
                told
            }
            Behaviour::Hang => std::future::pending().await,
            // hyper turns a panicking service into a closed connection.
            Behaviour::Close => std::panic::resume_unwind(Box::new("closing")),
        }
    }
}
