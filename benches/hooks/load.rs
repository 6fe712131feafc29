//! Senders: each has a connection over TLS 1.3 and sends an event when the last one is answered.
//!
//! They are cheap, so that one core loads another: a request is made once, and only the event's id
//! in it changes.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
    time::{Instant, sleep},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName, version::TLS13,
    },
};

use crate::daemon::{Daemon, Done, TOKEN};

/// Bytes of an event's data; with its attributes it has 700.
const DATA: usize = 625;
/// Digits of an id.
const DIGITS: usize = 16;
/// Load before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// What was seen between two moments under load.
pub(crate) struct Seen {
    pub(crate) times: Vec<Duration>,
    pub(crate) took: Duration,
    pub(crate) before: Done,
    pub(crate) after: Done,
}

/// What the senders share.
#[derive(Default)]
struct Tally {
    next: Cell<u64>,
    counting: Cell<bool>,
    stop: Cell<bool>,
    times: RefCell<Vec<Duration>>,
}

/// Loads the daemon with this number of senders for so long.
pub(crate) async fn load(
    daemon: &Daemon,
    senders: usize,
    length: Duration,
) -> anyhow::Result<Seen> {
    let connector = connector(daemon)?;
    let mut connections = Vec::new();
    for _ in 0..senders {
        let stream = TcpStream::connect(daemon.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        connections.push(connector.connect(name, stream).await?);
    }
    LocalSet::new().run_until(measure(daemon, connections, length)).await
}

async fn measure(
    daemon: &Daemon,
    connections: Vec<TlsStream<TcpStream>>,
    length: Duration,
) -> anyhow::Result<Seen> {
    let tally = Rc::new(Tally::default());
    let mut senders = JoinSet::new();
    for connection in connections {
        senders.spawn_local(send(connection, Rc::clone(&tally)));
    }
    sleep(WARM_UP).await;
    let before = daemon.done().await?;
    let began = Instant::now();
    tally.counting.set(true);
    sleep(length).await;
    tally.counting.set(false);
    let took = began.elapsed();
    let after = daemon.done().await?;
    tally.stop.set(true);
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    Ok(Seen { times: tally.times.take(), took, before, after })
}

async fn send(mut connection: TlsStream<TcpStream>, tally: Rc<Tally>) -> anyhow::Result<()> {
    let (mut request, id) = request();
    while !tally.stop.get() {
        let number = tally.next.replace(tally.next.get() + 1);
        let digits = format!("{number:0DIGITS$}");
        request.get_mut(id..id + DIGITS).context("no id")?.copy_from_slice(digits.as_bytes());
        let sent = Instant::now();
        connection.write_all(&request).await?;
        connection.flush().await?;
        answered(&mut connection).await?;
        if tally.counting.get() {
            tally.times.borrow_mut().push(sent.elapsed());
        }
    }
    Ok(())
}

/// Reads one answer: a 200 without a body.
async fn answered(connection: &mut TlsStream<TcpStream>) -> anyhow::Result<()> {
    let mut answer = [0; 1024];
    let mut length = 0;
    while !answer.get(..length).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
        let rest = answer.get_mut(length..).filter(|rest| !rest.is_empty());
        let read = connection.read(rest.context("a long answer")?).await?;
        ensure!(read > 0, "the daemon closed a connection");
        length += read;
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// A whole request, and where the event's id stands in it.
fn request() -> (Vec<u8>, usize) {
    let data = "x".repeat(DATA);
    let before = r#"{"specversion":"1.0","id":""#;
    let after = format!(r#"","source":"/s","type":"t","data":"{data}"}}"#);
    let head = format!(
        "POST /hooks/bench HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n",
        before.len() + DIGITS + after.len()
    );
    let id = head.len() + before.len();
    (format!("{head}{before}{:0DIGITS$}{after}", 0).into(), id)
}

fn connector(daemon: &Daemon) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(daemon.certificate.der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
