//! Durable appends by many senders at once, in the store and in a bare file by turns.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use brevdue::{event::Arrival, queue::Queue};
use tokio::time::Instant;

use crate::{
    bare::Bare,
    measure::{Cpu, arrival, median, open, quantile, rate},
};

const SENDERS: [u64; 4] = [1, 64, 128, 256];

/// One run with one number of senders.
pub(crate) struct Run {
    pub(crate) rate: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

pub(crate) async fn run(rounds: u64, seconds: u64) -> anyhow::Result<()> {
    let length = Duration::from_secs(seconds);
    println!("speed: 700-byte events, median of {rounds} rounds of {seconds} s each, by turns");
    println!(
        "senders  file ev/s  p50 ms  p99 ms  store ev/s  p50 ms  p99 ms  rate×  p50×  p99×  CPU µs/ev"
    );
    for senders in SENDERS {
        let mut both = Vec::new();
        for _ in 0..rounds {
            let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
            let file = bare(&directory.path().join("bare"), senders, length).await?;
            both.push((file, store(&directory.path().join("queue"), senders, length).await?));
        }
        let of = |value: fn(&(Run, Run)) -> f64| median(both.iter().map(value).collect());
        println!(
            "{senders:7}  {:9.0}  {:6.2}  {:6.2}  {:10.0}  {:6.2}  {:6.2}  {:5.2}  {:4.2}  {:4.2}  {:.1} {:.1}",
            of(|(file, _)| file.rate),
            of(|(file, _)| file.p50),
            of(|(file, _)| file.p99),
            of(|(_, store)| store.rate),
            of(|(_, store)| store.p50),
            of(|(_, store)| store.p99),
            of(|(file, store)| store.rate / file.rate),
            of(|(file, store)| store.p50 / file.p50),
            of(|(file, store)| store.p99 / file.p99),
            of(|(file, _)| file.cpu),
            of(|(_, store)| store.cpu),
        );
    }
    Ok(())
}

async fn store(directory: &Path, senders: u64, length: Duration) -> anyhow::Result<Run> {
    let queue = open(directory, &[], u64::MAX).await?;
    let sender = queue.clone();
    let append = move |arrival| {
        let queue = sender.clone();
        async move { queue.append(vec![arrival]).await.map(drop).map_err(Into::into) }
    };
    let run = send(senders, length, append).await?;
    queue.close().await?;
    Ok(run)
}

/// What a bare file takes.
pub(crate) async fn bare(path: &Path, senders: u64, length: Duration) -> anyhow::Result<Run> {
    let (file, writer) = Bare::open(path)?;
    let append = move |arrival| {
        let file = file.clone();
        async move { file.append(arrival).await }
    };
    let run = send(senders, length, append).await?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(run)
}

async fn send<A: Future<Output = anyhow::Result<()>> + Send + 'static>(
    senders: u64,
    length: Duration,
    append: impl Fn(Arrival) -> A + Clone + Send + 'static,
) -> anyhow::Result<Run> {
    let next = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), Cpu::now());
    let senders: Vec<_> = (0..senders)
        .map(|_| {
            let (append, next) = (append.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < length {
                    let arrival = arrival(next.fetch_add(1, Ordering::Relaxed))?;
                    let sent = Instant::now();
                    append(arrival).await?;
                    times.push(sent.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for sender in senders {
        times.extend(sender.await??);
    }
    let took = began.elapsed();
    times.sort_unstable();
    let ms = |thousandths| quantile(&times, thousandths).as_secs_f64() * 1000.0;
    let count = u64::try_from(times.len())?;
    Ok(Run { rate: rate(count, took), p50: ms(500), p99: ms(990), cpu: cpu.each(count) })
}
