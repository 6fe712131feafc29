//! The demo's handler: notes what it gets, and says 200.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use http::{Request, StatusCode};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    event::Event,
    server::{Answer, Gauges, Limits, Peer, RequestBody, Server, Service, Socket, answer, body},
};

const LIMITS: Limits = Limits {
    max_connections: NonZeroUsize::new(256).unwrap(),
    handshake_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_secs(20),
};
/// The daemon takes no larger events.
const MAX_BODY: usize = 128 * 1024;

/// What came for one event.
#[derive(Debug, Clone)]
pub(super) struct Got {
    /// How often.
    pub(super) times: usize,
    /// `Brevdue-Attempt` of the first.
    pub(super) attempt: String,
    /// `Idempotency-Key` of the first.
    pub(super) key: String,
}

/// Runs until dropped.
pub(super) struct Printing {
    address: SocketAddr,
    notes: Arc<Notes>,
    stop: CancellationToken,
    _tasks: TaskTracker,
}

struct Notes {
    got: Mutex<BTreeMap<String, Got>>,
    count: watch::Sender<usize>,
}

impl Printing {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let notes = Arc::new(Notes { got: Mutex::default(), count: watch::Sender::new(0) });
        let stop = CancellationToken::new();
        let server = Server {
            sockets: vec![Socket::Tcp(listener)],
            tls: None,
            limits: LIMITS,
            service: Arc::clone(&notes),
            gauges: Gauges::default(),
        };
        let tasks = TaskTracker::new();
        tasks.spawn(server.run(stop.clone()));
        Ok(Self { address, notes, stop, _tasks: tasks })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Waits until so many different events came.
    pub(super) async fn wait_for(&self, events: usize, patience: Duration) -> anyhow::Result<()> {
        let mut count = self.notes.count.subscribe();
        let came = timeout(patience, count.wait_for(|count| *count >= events)).await;
        came.with_context(|| format!("only {} of {events} events arrived", self.got().len()))??;
        Ok(())
    }

    /// Everything that came, by event id.
    pub(super) fn got(&self) -> BTreeMap<String, Got> {
        self.notes.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of these came exactly once.
    pub(super) fn each_once(&self, ids: &[String]) -> usize {
        let got = self.got();
        ids.iter().filter(|id| got.get(*id).is_some_and(|got| got.times == 1)).count()
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Service for Notes {
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
        let (head, incoming) = request.into_parts();
        let Ok(body) = body::read(incoming, MAX_BODY, LIMITS.request_timeout).await else {
            return answer::empty(StatusCode::BAD_REQUEST);
        };
        let Ok(event) = Event::from_json(body) else {
            return answer::empty(StatusCode::BAD_REQUEST);
        };
        let header = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        let mut got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        let (attempt, key) = (header("brevdue-attempt"), header("idempotency-key"));
        let new = Got { times: 0, attempt, key };
        got.entry(event.attributes().id.clone()).or_insert(new).times += 1;
        self.count.send_replace(got.len());
        answer::empty(StatusCode::OK)
    }
}
