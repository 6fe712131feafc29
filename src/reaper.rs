//! Reaps processes that were left to us: as the first process of a container, or as its subreaper,
//! brevdue becomes the parent of whatever a command leaves running.
//!
//! Owns the difference between those and the children that someone here waits for. The latter are
//! started by [`spawn`], and their end is never taken from who waits for it.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError},
    time::Duration,
};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Children that someone here waits for, with the moment of their start, which tells a number that was
/// given again.
static WAITED_FOR: Mutex<BTreeMap<i32, u64>> = Mutex::new(BTreeMap::new());

/// Shared by those who start a child, until it is known: it could end before. Nobody ever waits for the
/// whole of it, so one program that is slow to start holds up no other.
static STARTING: RwLock<()> = RwLock::new(());

/// Between two attempts while a child is being started.
const AGAIN: Duration = Duration::from_millis(100);

fn waited_for() -> MutexGuard<'static, BTreeMap<i32, u64>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child that the caller waits for; `number` gives its process's number.
pub fn spawn<C>(
    start: impl FnOnce() -> io::Result<C>,
    number: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<C> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = start()?;
    let number = number(&child).and_then(|number| i32::try_from(number).ok());
    if let Some(process) = number.and_then(process) {
        waited_for().insert(process.number, process.started);
    }
    Ok(child)
}

/// Reaps what is left to us, until `stop`.
pub async fn run(stop: CancellationToken) -> anyhow::Result<()> {
    let mut child = signal(SignalKind::child())?;
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "what commands leave running is left to the system");
    }
    let for_ever = async {
        loop {
            while !reap() {
                sleep(AGAIN).await;
            }
            child.recv().await;
        }
    };
    stop.run_until_cancelled(for_ever).await;
    Ok(())
}

/// Reaps every ended child that nobody waits for; false if that is not known now.
fn reap() -> bool {
    let _nobody_starts = match STARTING.try_write() {
        Ok(alone) => alone,
        Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
        Err(TryLockError::WouldBlock) => return false,
    };
    let mut known = waited_for();
    let children: Vec<Process> = children().unwrap_or_default();
    known.retain(|number, started| {
        children.iter().any(|child| (child.number, child.started) == (*number, *started))
    });
    for child in children {
        if child.ended && !known.contains_key(&child.number) {
            // An error says that it is gone.
            waitpid(Pid::from_raw(child.number), WaitOptions::NOHANG).ok();
            tracing::debug!(process = child.number, "reaped what a command left running");
        }
    }
    true
}

/// A process, as /proc has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    number: i32,
    parent: i32,
    /// In ticks since the machine's start.
    started: u64,
    /// It waits to be reaped.
    ended: bool,
}

/// All children of this process.
fn children() -> io::Result<Vec<Process>> {
    let own = getpid().as_raw_nonzero().get();
    let numbers = fs::read_dir("/proc")?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse().ok()
    });
    Ok(numbers.filter_map(process).filter(|process| process.parent == own).collect())
}

fn process(number: i32) -> Option<Process> {
    let text = fs::read(format!("/proc/{number}/stat")).ok()?;
    read(number, &String::from_utf8_lossy(&text))
}

/// Reads `proc_pid_stat(5)`. The name, in parentheses, can hold anything.
fn read(number: i32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // The fields are counted from 1: state is the third, the parent the fourth, this one the 22nd.
    let started = fields.nth(22 - 5)?.parse().ok()?;
    Some(Process { number, parent, started, ended: state == "Z" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "42 (a) Z 1 (b) Z 7 42 42 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 1 0 9001 0 0 1\n";
        let expected = Process { number: 42, parent: 7, started: 9001, ended: true };
        assert_eq!(read(42, stat), Some(expected));
        assert!(!read(42, &stat.replace("Z 7", "S 7")).unwrap().ended);
        for broken in ["", "42 (a", "42 (a) S", "42 (a) S x 1", "42 (a) S 1 2 3"] {
            assert_eq!(read(42, broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_a_child_of_its_parent() {
        let own = process(getpid().as_raw_nonzero().get()).unwrap();
        let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
        assert_eq!((own.parent, own.ended), (parent, false));
        assert!(own.started > 0);
    }
}
