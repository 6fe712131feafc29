//! Events that come and go at a steady depth: disk, memory and rate must stay level.

#![expect(clippy::indexing_slicing, reason = "a handler is one of two")]

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use brevdue::{
    name::HandlerName,
    queue::{Failure, Queue, Verdict, sled::SledQueue},
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{
    measure::{MIB, arrival, disk, float, open, rate, resident},
    speed::bare,
};

const HANDLERS: [&str; 2] = ["a", "b"];
const SENDERS: u64 = 128;
const TAKERS: usize = 64;
/// How far the senders may be ahead of the depth.
const SLACK: usize = 1024;
/// Ten times what is live at the greater depth. A 64th of it is kept behind sled's file.
const MAX_BYTES: u64 = 1 << 30;
/// The run is told in this many parts, to show what is level.
const PARTS: u64 = 10;
/// A bare file is written this long before the run, and again after it.
const BARE: Duration = Duration::from_secs(3);

/// Who may go on, so that the log keeps its depth.
struct Flow {
    events: u64,
    depth: u64,
    next: AtomicU64,
    stored: AtomicU64,
    may_send: Semaphore,
    may_take: [Semaphore; 2],
    done: Mutex<[u64; 2]>,
}

/// Each depth in a process of its own, so that the memory is its own.
pub(crate) fn run(events: u64) -> anyhow::Result<()> {
    println!("churn: {events} events, two handlers, 1 % retried, dedup window 2000000 ids");
    println!(
        "depth    part   ev/s  live MiB  ids MiB  disk MiB  disk-64/live+ids  RSS MiB  -40 B/id"
    );
    for depth in [1_000, 100_000] {
        if depth < events {
            let mut at = Command::new(std::env::current_exe()?);
            at.args(["churn-at", &depth.to_string(), &events.to_string()]);
            anyhow::ensure!(at.status()?.success(), "it failed at a depth of {depth}");
        }
    }
    Ok(())
}

/// Prints what a bare file takes.
pub(crate) async fn bare_file(path: &Path) -> anyhow::Result<()> {
    println!("{}", bare(path, SENDERS, BARE).await?.rate);
    Ok(())
}

/// The same in a process of its own: what it leaves in memory would count as the store's.
fn bare_elsewhere(path: &Path) -> anyhow::Result<f64> {
    let written = Command::new(std::env::current_exe()?).arg("bare-file").arg(path).output()?;
    Ok(String::from_utf8(written.stdout)?.trim().parse()?)
}

pub(crate) async fn at_depth(depth: u64, events: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let directory = &folder.path().join("queue");
    let before = bare_elsewhere(&folder.path().join("before"))?;
    let began = Instant::now();
    let queue = open(directory, &HANDLERS, MAX_BYTES).await?;
    let flow = Arc::new(Flow {
        events,
        depth,
        next: AtomicU64::new(0),
        stored: AtomicU64::new(0),
        may_send: Semaphore::new(usize::try_from(depth)? + SLACK),
        may_take: [Semaphore::new(0), Semaphore::new(0)],
        done: Mutex::new([0; 2]),
    });
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(send(queue.clone(), Arc::clone(&flow)));
    }
    let mut takers = JoinSet::new();
    for which in 0..HANDLERS.len() {
        for _ in 0..TAKERS {
            takers.spawn(take(queue.clone(), Arc::clone(&flow), which));
        }
    }
    report(&queue, directory, &flow).await?;
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    let all = rate(events, began.elapsed());
    takers.shutdown().await;
    queue.close().await?;
    let after = bare_elsewhere(&folder.path().join("after"))?;
    println!(
        "{depth:6}  {all:.0} ev/s with two handlers, a bare file without any {before:.0} before and \
         {after:.0} after: {:.2}",
        2.0 * all / (before + after)
    );
    Ok(())
}

async fn send(queue: SledQueue, flow: Arc<Flow>) -> anyhow::Result<()> {
    loop {
        flow.may_send.acquire().await?.forget();
        let number = flow.next.fetch_add(1, Ordering::Relaxed);
        if number >= flow.events {
            return Ok(());
        }
        queue.append(vec![arrival(number)?]).await?;
        if flow.stored.fetch_add(1, Ordering::Relaxed) >= flow.depth {
            flow.may_take.iter().for_each(|handler| handler.add_permits(1));
        }
    }
}

async fn take(queue: SledQueue, flow: Arc<Flow>, which: usize) -> anyhow::Result<()> {
    let name: HandlerName = HANDLERS[which].parse()?;
    loop {
        flow.may_take[which].acquire().await?.forget();
        loop {
            let taken = queue.take(&name).await?;
            let retry = taken.attempt == 1 && taken.stored.seq.to_string().ends_with("00");
            if !retry {
                queue.settle(taken.receipt, Verdict::Done).await?;
                break;
            }
            let failure = Failure { reason: "503".into(), answer: None };
            let again = Verdict::RetryAfter(Duration::from_secs(1), failure);
            queue.settle(taken.receipt, again).await?;
        }
        let mut done = flow.done.lock().unwrap_or_else(PoisonError::into_inner);
        let before = done[0].min(done[1]);
        done[which] += 1;
        let after = done[0].min(done[1]);
        flow.may_send.add_permits(usize::from(after > before));
    }
}

async fn report(queue: &SledQueue, directory: &Path, flow: &Flow) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    let (mut part, mut began) = (1, (Instant::now(), 0));
    let (mut most_disk, mut most_memory) = (0, 0);
    while part <= PARTS {
        look.tick().await;
        most_disk = most_disk.max(disk(directory));
        most_memory = most_memory.max(resident());
        let stored = flow.stored.load(Ordering::Relaxed);
        if stored < flow.events * part / PARTS {
            continue;
        }
        let census = queue.census().await?;
        let (live, ids) = (float(census.live_bytes), float(census.dedup_ids * 16));
        let slack = 64.0 * MIB;
        println!(
            "{:6}  {part:4}/{PARTS}  {:6.0}  {:8.1}  {:7.1}  {:8.1}  {:16.2}  {:7.1}  {:8.1}",
            flow.depth,
            rate(stored - began.1, began.0.elapsed()),
            live / MIB,
            ids / MIB,
            float(most_disk) / MIB,
            (float(most_disk) - slack).max(0.0) / (live + ids),
            float(most_memory) / MIB,
            (float(most_memory) - ids * 2.5) / MIB,
        );
        (part, began, most_disk, most_memory) = (part + 1, (Instant::now(), stored), 0, 0);
    }
    Ok(())
}
