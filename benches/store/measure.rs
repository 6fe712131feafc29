//! Stores, events and figures for all of the benches.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use brevdue::{
    clock::Clock,
    event::{Arrival, Event, Origin},
    metrics::Metrics,
    queue::{
        StartAt,
        sled::{DeadLetterBounds, Options, SledQueue},
    },
};

/// Bytes of an event's data; with its attributes it has 700.
const DATA: usize = 625;
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn float(number: u64) -> f64 {
    u32::try_from(number / 1000).map_or(f64::MAX, f64::from) * 1000.0
        + u32::try_from(number % 1000).map_or(0.0, f64::from)
}

/// How often in a second.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    float(count) / time.as_secs_f64()
}

/// The event with this number, by a hook.
pub(crate) fn arrival(number: u64) -> anyhow::Result<Arrival> {
    let data = "x".repeat(DATA);
    let json = format!(
        r#"{{"specversion":"1.0","id":"{number:016}","source":"/s","type":"t","data":"{data}"}}"#
    );
    let from = vec!["hook".parse()?];
    let event = Event::from_json(json.into())?;
    Ok(Arrival { event, origin: Origin::Altinn, from, only_by_hook: None })
}

/// Opens a store with these handlers.
pub(crate) async fn open(
    directory: &Path,
    handlers: &[&str],
    max_bytes: u64,
) -> anyhow::Result<SledQueue> {
    let handlers = handlers.iter().map(|name| Ok((name.parse()?, StartAt::Oldest)));
    let options = Options {
        directory: directory.to_owned(),
        max_bytes,
        min_free_disk: 0,
        dedup_window: Duration::from_secs(90 * 24 * 3600),
        dedup_max: 2_000_000,
        retain: Duration::ZERO,
        dead_letters: DeadLetterBounds::default(),
        handlers: handlers.collect::<anyhow::Result<_>>()?,
    };
    let open = move || SledQueue::open(options, Clock::System, Metrics::default());
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// Bytes that a directory takes on the disk.
pub(crate) fn disk(directory: &Path) -> u64 {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    let sizes = files.flatten().map(|file| match file.metadata() {
        Ok(data) if data.is_dir() => disk(&file.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Bytes of memory that this process has resident.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Processor time that this process has used, in hundredths of a second.
fn used() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Processor time from its making, which other work on the machine does not change.
pub(crate) struct Cpu(u64);

impl Cpu {
    pub(crate) fn now() -> Self {
        Self(used())
    }

    /// Microseconds for each of so many.
    pub(crate) fn each(&self, count: u64) -> f64 {
        float(used() - self.0) * 10_000.0 / float(count.max(1))
    }
}

/// The value below which so many thousandths are.
pub(crate) fn quantile(sorted: &[Duration], thousandths: usize) -> Duration {
    let index = (sorted.len() * thousandths / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
