//! What the program does under load at its hook endpoint: TLS, HTTP, the store and its syncs, on
//! one core, with the load on another. docs/PERFORMANCE.md tells what came of it.
//!
//! `cargo bench --bench hooks [-- ROUNDS [SECONDS] [--vs BINARY...]]`. Other builds take
//! turns with this one. Without arguments, or with only `--daemon BINARY`, the form is short
//! (seconds, for CI), and it fails when calls are not grouped.

#![expect(clippy::print_stdout, reason = "the result is for a person")]
#![expect(clippy::print_stderr, reason = "the daemon's warnings are passed on")]

mod daemon;
mod figures;
mod load;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;

use crate::{
    daemon::{Cores, Daemon},
    figures::{Run, table},
};

const SENDERS: [usize; 4] = [1, 16, 64, 256];
/// The senders of the short form that are to share syncs.
const MANY: usize = 64;
/// Fewer events in a sync than this with [`MANY`] senders mean that the writer does not give way to
/// those that are about to call. A busy machine has half of what an idle one has.
const LEAST_GROUP: f64 = 10.0;
/// The same of a daemon that is not optimized, which takes longer for each event.
const LEAST_GROUP_UNOPTIMIZED: f64 = 2.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut binaries = vec![PathBuf::from(env!("CARGO_BIN_EXE_brevdue"))];
    let (numbers, others) = match arguments.iter().position(|argument| *argument == "--vs") {
        Some(place) => arguments.split_at(place),
        None => (arguments.as_slice(), [].as_slice()),
    };
    binaries.extend(others.iter().skip(1).map(PathBuf::from));
    let cores = Cores::allowed()?;
    if let ["--daemon", binary] = *arguments {
        return short(Path::new(binary), cores, LEAST_GROUP);
    }
    let (rounds, seconds) = match *numbers {
        [] if binaries.len() == 1 => {
            let least = if cfg!(debug_assertions) { LEAST_GROUP_UNOPTIMIZED } else { LEAST_GROUP };
            return short(Path::new(env!("CARGO_BIN_EXE_brevdue")), cores, least);
        }
        [] => (3, 3),
        [rounds] => (rounds.parse()?, 3),
        [rounds, seconds] => (rounds.parse()?, seconds.parse()?),
        _ => anyhow::bail!("[--daemon BINARY], or [ROUNDS [SECONDS]] [--vs BINARY...]"),
    };
    compare(&binaries, cores, rounds, Duration::from_secs(seconds))
}

/// All numbers of senders, all binaries, by turns.
fn compare(
    binaries: &[PathBuf],
    cores: Cores,
    rounds: u64,
    length: Duration,
) -> anyhow::Result<()> {
    println!(
        "hooks: 700-byte events over TLS 1.3, the daemon on one core; median (lowest to highest) of \
         {rounds} rounds of {} s each, by turns",
        length.as_secs()
    );
    let mut runs: Vec<Vec<_>> =
        binaries.iter().map(|_| SENDERS.map(|_| Vec::new()).into()).collect();
    for _ in 0..rounds {
        for (place, senders) in SENDERS.into_iter().enumerate() {
            for (binary, runs) in binaries.iter().zip(&mut runs) {
                let run = run(binary, cores, senders, length)?;
                runs.get_mut(place).map(|all: &mut Vec<Run>| all.push(run)).unwrap_or_default();
            }
        }
    }
    for (binary, runs) in binaries.iter().zip(&runs) {
        println!("{}", binary.display());
        table(&SENDERS, runs);
    }
    Ok(())
}

/// Shows that figures can be had, and that many senders share a sync.
fn short(binary: &Path, cores: Cores, least: f64) -> anyhow::Result<()> {
    let run = |senders| run(binary, cores, senders, Duration::from_secs(2));
    let (one, many) = (run(1)?, run(MANY)?);
    let group = many.group;
    table(&[1, MANY], &[vec![one], vec![many]]);
    ensure!(group >= least, "{MANY} senders have {group:.1} events a sync, not {least}");
    Ok(())
}

/// One run on a fresh store.
fn run(binary: &Path, cores: Cores, senders: usize, length: Duration) -> anyhow::Result<Run> {
    let daemon = Daemon::start(binary, cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Run::of(&runtime.block_on(load::load(&daemon, senders, length))?)
}
