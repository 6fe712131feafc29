//! All that is around the program: senders, Altinn's publisher, a second handler's target, and those
//! who mean no good. Owns what was sent, and what must have come.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::{OwnedRwLockWriteGuard, RwLock},
    task::JoinSet,
    time::{interval, sleep},
};

use super::subject::Subject;
use crate::support::{
    receiver::{Received, Receiver},
    world::{ORG, RESOURCE, event},
};

const SENDERS: usize = 3;
/// Of each sort.
const HOSTILE: usize = 40;
/// Where they come from: good senders are elsewhere.
const ENEMY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What happened, as far as the tasks out here know.
#[derive(Default)]
struct Ledger {
    sent: AtomicU64,
    answered: Mutex<BTreeSet<String>>,
    published: Mutex<BTreeSet<String>>,
    wrong: Mutex<Vec<String>>,
}

/// What came to a target: the idempotency key of each event.
#[derive(Default)]
struct Arrived {
    seen: usize,
    keys: HashMap<String, String>,
}

/// All that is around the program.
pub(super) struct Outside {
    ledger: Arc<Ledger>,
    /// Held for reading by whoever sends.
    gate: Arc<RwLock<()>>,
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
    arrived: [Mutex<Arrived>; 2],
    enemies: Mutex<JoinSet<()>>,
    listen: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Outside {
    /// Senders and a publisher that go on until it is dropped.
    pub(super) fn begin(subject: &Subject) -> Self {
        let world = &subject.world;
        let (ledger, gate) = (Arc::<Ledger>::default(), Arc::<RwLock<()>>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..SENDERS {
            let (client, hook) = (world.client.clone(), world.hook("innboks"));
            tasks.spawn(send(client, hook, Arc::clone(&ledger), Arc::clone(&gate)));
        }
        let events = format!("{}/simulator/events", world.simulator.base_url);
        tasks.spawn(publish(world.client.clone(), events, Arc::clone(&ledger), Arc::clone(&gate)));
        Self {
            ledger,
            gate,
            closed: Mutex::default(),
            arrived: Default::default(),
            enemies: Mutex::default(),
            listen: world.listen,
            _tasks: tasks,
        }
    }

    /// Nothing is sent any more, or sending goes on. Returns when the last push was answered.
    pub(super) async fn pause(&self, pause: bool) {
        let guard = if pause { Some(Arc::clone(&self.gate).write_owned().await) } else { None };
        *self.closed.lock().unwrap() = guard;
    }

    /// Connections that prove nothing come, or go.
    pub(super) fn besiege(&self, besiege: bool) {
        let mut enemies = self.enemies.lock().unwrap();
        if besiege {
            for number in 0..3 * HOSTILE {
                enemies.spawn(harass(self.listen, number % 3));
            }
        } else {
            *enemies = JoinSet::new();
        }
    }

    pub(super) fn answered(&self) -> BTreeSet<String> {
        self.ledger.answered.lock().unwrap().clone()
    }

    pub(super) fn published(&self) -> BTreeSet<String> {
        self.ledger.published.lock().unwrap().clone()
    }

    /// No push got an answer that it should not get.
    pub(super) fn blames_nothing(&self) {
        let wrong = self.ledger.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Errs if a handler misses something, or got something again with another key.
    pub(super) fn has_come(&self, subject: &Subject) -> Result<(), String> {
        let mut due = self.answered();
        due.append(&mut self.published());
        for (target, arrived) in subject.targets().into_iter().zip(&self.arrived) {
            let mut arrived = arrived.lock().unwrap();
            arrived.take_in(target);
            let missing = due.iter().filter(|id| !arrived.keys.contains_key(*id)).count();
            if missing > 0 {
                return Err(format!("a target misses {missing} of {} events", due.len()));
            }
        }
        let filed = subject.filed();
        let missing = due.difference(&filed).count();
        if missing > 0 {
            Err(format!("the file misses {missing} of {}", due.len()))
        } else {
            Ok(())
        }
    }
}

impl Arrived {
    fn take_in(&mut self, target: &Receiver) {
        for request in target.received_after(self.seen) {
            self.seen += 1;
            let key = request.header("idempotency-key").to_owned();
            let id = Received::id(&request);
            let first = self.keys.entry(id).or_insert_with(|| key.clone());
            assert_eq!(*first, key, "an event came again with another key");
        }
    }
}

async fn send(client: reqwest::Client, hook: String, ledger: Arc<Ledger>, gate: Arc<RwLock<()>>) {
    let mut pace = interval(Duration::from_millis(100));
    loop {
        pace.tick().await;
        let _open = gate.read().await;
        let id = format!("s-{}", ledger.sent.fetch_add(1, Ordering::SeqCst));
        let push = client.post(&hook).header("content-type", "application/json");
        let push = push.timeout(Duration::from_secs(30)).body(event(&id));
        // Without an answer it may be stored or not.
        let Ok(answer) = push.send().await else { continue };
        match answer.status().as_u16() {
            200 => drop(ledger.answered.lock().unwrap().insert(id)),
            503 => {}
            other => ledger.wrong.lock().unwrap().push(format!("{id} was answered {other}")),
        }
    }
}

async fn publish(client: reqwest::Client, url: String, ledger: Arc<Ledger>, gate: Arc<RwLock<()>>) {
    let mut pace = interval(Duration::from_millis(500));
    let order = json!({ "resource": RESOURCE, "subject": ORG, "count": 1 });
    loop {
        pace.tick().await;
        let _open = gate.read().await;
        let answer = client.post(&url).json(&order).send().await.expect("the stand-in answers");
        let answer: Value = answer.json().await.expect("JSON");
        let ids: Vec<String> = serde_json::from_value(answer["ids"].clone()).expect("ids");
        ledger.published.lock().unwrap().extend(ids);
    }
}

/// Connects again and again, and proves nothing: it says nothing, begins a handshake, or asks for
/// what is not there.
async fn harass(listen: SocketAddr, sort: usize) {
    const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let client = reqwest::Client::builder().no_proxy().local_address(ENEMY);
    let client = client.tls_danger_accept_invalid_certs(true).build().expect("a client");
    let url = format!("https://{listen}/hooks/innboks?code=not-the-secret-of-anyone");
    loop {
        if sort == 2 {
            drop(client.post(&url).body("{}").send().await);
        } else if let Some(mut stream) = connect(listen).await {
            let begun = if sort == 1 { stream.write_all(BEGUN).await } else { Ok(()) };
            if begun.is_ok() {
                drop(stream.read(&mut [0; 64]).await);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn connect(listen: SocketAddr) -> Option<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::new(ENEMY, 0)).ok()?;
    socket.connect(listen).await.ok()
}
