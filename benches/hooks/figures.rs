//! Figures of runs, and the table of their medians and ranges.

use std::time::Duration;

use crate::load::Seen;

/// Figures of one run with one number of senders.
pub(crate) struct Run {
    /// Events a second.
    rate: f64,
    /// Milliseconds from a request to its answer.
    p50: f64,
    p99: f64,
    /// Events in a sync.
    pub(crate) group: f64,
    /// Microseconds of the daemon's processor time for an event.
    cpu: f64,
}

impl Run {
    pub(crate) fn of(seen: &Seen) -> anyhow::Result<Self> {
        let mut times = seen.times.clone();
        times.sort_unstable();
        let events = f64::from(u32::try_from(times.len())?);
        let commits = f64::from(u32::try_from(seen.after.commits - seen.before.commits)?);
        let ticks = f64::from(u32::try_from(seen.after.ticks - seen.before.ticks)?);
        let ms = |thousandths| quantile(&times, thousandths).as_secs_f64() * 1000.0;
        Ok(Self {
            rate: events / seen.took.as_secs_f64(),
            p50: ms(500),
            p99: ms(990),
            group: events / commits.max(1.0),
            cpu: ticks * 10_000.0 / events.max(1.0),
        })
    }
}

/// One line for each number of senders.
pub(crate) fn table(senders: &[usize], runs: &[Vec<Run>]) {
    println!(
        "{:>7}  {:<24}  {:<20}  {:<20}  {:<20}  CPU µs/event",
        "senders", "events/s", "p50 ms", "p99 ms", "events/sync"
    );
    for (senders, runs) in senders.iter().zip(runs) {
        let of = |value: fn(&Run) -> f64, digits| range(runs.iter().map(value).collect(), digits);
        println!(
            "{senders:>7}  {:<24}  {:<20}  {:<20}  {:<20}  {}",
            of(|run| run.rate, 0),
            of(|run| run.p50, 2),
            of(|run| run.p99, 2),
            of(|run| run.group, 1),
            of(|run| run.cpu, 1),
        );
    }
}

/// The median and, of more than one, the lowest and the highest.
fn range(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    match values.as_slice() {
        [lowest, .., highest] => {
            format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
        }
        _ => format!("{median:.digits$}"),
    }
}

/// The value below which so many thousandths are.
fn quantile(sorted: &[Duration], thousandths: usize) -> Duration {
    let index = (sorted.len() * thousandths / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
