//! Durable appends a second with many senders, beside a bare file that is appended to and synced
//! once a group: what the disk allows. Run with `cargo bench --bench append [SECONDS]`.

#![expect(clippy::print_stdout, reason = "the result is for a person")]
#![expect(clippy::disallowed_methods, reason = "the tasks end with the measurement")]

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use brevdue::{
    clock::Clock,
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    queue::{
        Queue,
        sled::{DeadLetterBounds, Options, SledQueue},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Bytes of an event's data.
const DATA: usize = 600;

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let length = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Runtime::new()?;
    println!("senders  file ev/s  sled ev/s  ratio");
    for senders in [64, 256] {
        let directory = tempfile::tempdir_in(".")?;
        let file = runtime.block_on(bare(directory.path(), senders, length))?;
        let sled = runtime.block_on(store(directory.path(), senders, length))?;
        println!("{senders:7}  {file:9}  {sled:9}   {:.2}", ratio(sled, file));
    }
    Ok(())
}

fn ratio(a: u64, b: u64) -> f64 {
    let number = |n: u64| u32::try_from(n).map_or(f64::MAX, f64::from);
    number(a) / number(b.max(1))
}

fn arrival(number: u64) -> anyhow::Result<Arrival> {
    let data = "x".repeat(DATA);
    let json = format!(
        r#"{{"specversion":"1.0","id":"{number}","source":"/s","type":"t","data":"{data}"}}"#
    );
    let from = vec!["hook".parse()?];
    let event = Event::from_json(json.into())?;
    Ok(Arrival { event, origin: Origin::Altinn, from, only_by_hook: None })
}

/// Events a second through the store.
async fn store(directory: &Path, senders: u64, length: Duration) -> anyhow::Result<u64> {
    let options = Options {
        directory: directory.join("queue"),
        max_bytes: u64::MAX,
        min_free_disk: 0,
        dedup_window: Duration::from_secs(90 * 24 * 3600),
        dedup_max: 2_000_000,
        retain: Duration::from_secs(3600),
        dead_letters: DeadLetterBounds::default(),
        handlers: Vec::new(),
    };
    let open = move || SledQueue::open(options, Clock::System, Metrics::default());
    let queue = tokio::task::spawn_blocking(open).await??;
    let next = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + length;
    let senders = (0..senders).map(|_| {
        let (queue, next) = (queue.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut sent = 0;
            while Instant::now() < end {
                queue.append(vec![arrival(next.fetch_add(1, Ordering::Relaxed))?]).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        })
    });
    let sent = total(senders).await?;
    queue.close().await?;
    Ok(sent / length.as_secs())
}

/// Events a second through a file: the bytes of each group in one write and one sync.
async fn bare(directory: &Path, senders: u64, length: Duration) -> anyhow::Result<u64> {
    let (mailbox, mut waiting) = mpsc::channel::<(Arrival, oneshot::Sender<()>)>(4096);
    let mut file = File::create(directory.join("bare"))?;
    let writer = std::thread::spawn(move || {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while let Ok(next) = waiting.try_recv() {
                group.push(next);
            }
            let mut bytes = Vec::new();
            for (arrival, _) in &group {
                bytes.extend_from_slice(arrival.event.json());
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            for (_, answer) in group {
                answer.send(()).map_err(|()| std::io::ErrorKind::BrokenPipe)?;
            }
        }
        std::io::Result::Ok(())
    });
    let end = Instant::now() + length;
    let next = Arc::new(AtomicU64::new(0));
    let senders = (0..senders).map(|_| {
        let (mailbox, next) = (mailbox.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut sent = 0;
            while Instant::now() < end {
                let (answer, answered) = oneshot::channel();
                mailbox.send((arrival(next.fetch_add(1, Ordering::Relaxed))?, answer)).await?;
                answered.await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        })
    });
    let sent = total(senders).await?;
    drop(mailbox);
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(sent / length.as_secs())
}

async fn total(
    senders: impl Iterator<Item = tokio::task::JoinHandle<anyhow::Result<u64>>>,
) -> anyhow::Result<u64> {
    let senders: Vec<_> = senders.collect();
    let mut total = 0;
    for sender in senders {
        total += sender.await??;
    }
    Ok(total)
}
