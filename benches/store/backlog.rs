//! A log that nobody reads: the rate must not fall, and a crashed store must be there again soon.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use brevdue::queue::Queue;
use tokio::time::Instant;

use crate::measure::{MIB, arrival, disk, float, open, rate, resident};

const SENDERS: u64 = 256;
const PARTS: u64 = 10;

pub(crate) async fn run(events: u64) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let queue = directory.path().join("queue");
    println!("backlog: {events} undelivered events, {SENDERS} senders");
    kill_when_filled(&queue, events)?;
    for round in 1..=3 {
        let began = Instant::now();
        let read = read(&queue.join("sled/db"))?;
        let reading = began.elapsed();
        let began = Instant::now();
        let opened = open(&queue, &["a"], u64::MAX).await?;
        let opening = began.elapsed();
        let began = Instant::now();
        let first = opened.take(&"a".parse()?).await?;
        let waiting = began.elapsed();
        println!(
            "{} open {:.2} s, first delivery {:.1} ms later (number {}); reading the file's \
             {:.0} MiB once {:.2} s; ratio {:.2}; disk {:.2}× live; RSS {:.0} MiB",
            if round == 1 { "after kill -9:" } else { "after a clean stop:" },
            opening.as_secs_f64(),
            waiting.as_secs_f64() * 1000.0,
            first.stored.seq,
            float(read) / MIB,
            reading.as_secs_f64(),
            opening.as_secs_f64() / reading.as_secs_f64(),
            float(disk(&queue)) / float(opened.census().await?.live_bytes),
            float(resident()) / MIB,
        );
        drop(first);
        opened.close().await?;
    }
    Ok(())
}

/// Fills it in a process of its own, which then gets SIGKILL.
fn kill_when_filled(queue: &Path, events: u64) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(queue)
        .arg(events.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("{line}");
        if line == "filled" {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Fills a store, tells how that goes, and waits for its end.
pub(crate) async fn fill(directory: &Path, events: u64) -> anyhow::Result<()> {
    let queue = open(directory, &["a"], u64::MAX).await?;
    let next = Arc::new(AtomicU64::new(0));
    for part in 1..=PARTS {
        let (until, before, began) = (events * part / PARTS, disk(directory), Instant::now());
        let from = events * (part - 1) / PARTS;
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (queue, next) = (queue.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= until {
                            next.fetch_sub(1, Ordering::Relaxed);
                            return anyhow::Ok(());
                        }
                        queue.append(vec![arrival(number)?]).await?;
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await??;
        }
        println!(
            "part {part:2}/{PARTS}: {:.0} ev/s, disk +{:.0} MiB, RSS {:.0} MiB",
            rate(until - from, began.elapsed()),
            float(disk(directory) - before) / MIB,
            float(resident()) / MIB,
        );
    }
    println!("filled");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<u64> {
    let (mut file, mut buffer, mut total) = (File::open(path)?, vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            count => total += u64::try_from(count)?,
        }
    }
}
