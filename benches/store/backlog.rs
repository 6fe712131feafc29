//! A log that nobody reads: the rate must not fall, and a crashed store must be there again soon.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use brevdue::queue::{Queue, sled::SledQueue};
use tokio::time::Instant;

use crate::measure::{MIB, arrival, disk, float, median, open, rate, resident};

const SENDERS: u64 = 256;
const PARTS: u64 = 10;
const TURNS: u64 = 5;

pub(crate) async fn run(events: u64) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let queue = directory.path().join("queue");
    println!("backlog: {events} undelivered events, {SENDERS} senders");
    kill_when_filled(&queue, events)?;
    for round in 1..=3 {
        let began = Instant::now();
        let read = read(&queue.join("store/sled/db"))?;
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
    beside_an_empty_one(&queue, events).await
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
    for part in 1..=PARTS {
        let before = disk(directory);
        let numbers = events * (part - 1) / PARTS..events * part / PARTS;
        println!(
            "part {part:2}/{PARTS}: {:.0} ev/s, disk +{:.0} MiB, RSS {:.0} MiB",
            append(&queue, numbers).await?,
            float(disk(directory) - before) / MIB,
            float(resident()) / MIB,
        );
    }
    println!("filled");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    Ok(())
}

/// How fast a full store takes events, and an empty one, by turns: the machine is not as fast at the
/// end of a long run as at its beginning.
async fn beside_an_empty_one(full: &Path, events: u64) -> anyhow::Result<()> {
    let more = events / PARTS;
    let (mut full_rates, mut empty_rates) = (Vec::new(), Vec::new());
    let queue = open(full, &["a"], u64::MAX).await?;
    for turn in 0..TURNS {
        let directory = full.with_extension("empty");
        let empty = open(&directory, &["a"], u64::MAX).await?;
        empty_rates.push(append(&empty, 0..more).await?);
        empty.close().await?;
        drop(empty);
        std::fs::remove_dir_all(directory)?;
        let from = events + more * turn;
        full_rates.push(append(&queue, from..from + more).await?);
    }
    queue.close().await?;
    let (full, empty) = (median(full_rates), median(empty_rates));
    println!(
        "{TURNS} times {more} more, and as many to an empty store, by turns: {full:.0} ev/s and \
         {empty:.0} ev/s; ratio {:.2}",
        full / empty
    );
    Ok(())
}

/// Appends the events with these numbers, by all senders; so many in a second.
async fn append(queue: &SledQueue, numbers: Range<u64>) -> anyhow::Result<f64> {
    let (count, began) = (numbers.end - numbers.start, Instant::now());
    let next = Arc::new(AtomicU64::new(numbers.start));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (queue, next) = (queue.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
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
    Ok(rate(count, began.elapsed()))
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
