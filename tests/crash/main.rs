//! Crashes, power loss, failing disks and damaged files: what was answered must outlive them.
//!
//! By default every family of tests runs in a short form; with `BREVDUE_TESTS=long` in the
//! environment in its long one. Both print their figures (`--nocapture` shows them).
//!
//! | module | what happens to the store | short | long |
//! | --- | --- | --- | --- |
//! | `power` | a strict model of power loss, from a recording of its file calls | 60 images | 360 images |
//! | `forgetting` | the same, and its disk forgets what a failed sync was for | 20 images | 360 images |
//! | `disk` | a real ext4 is cut off under load (needs root and a loop device) | 3 rounds | 40 |
//! | `faults` | its disk fails, hangs, or fills up, while it runs | 10 outages, all else | all |
//! | `kill` | SIGKILL at any moment, while it recovers too | 30 rounds | 200 rounds |
//! | `soak` | everything at once, drawn from a seed (`BREVDUE_SEED`) | 45 seconds | an hour |
//! | `damage` | bytes flipped, files cut, swapped and removed | 40 copies | 200 copies |

// The lints that let tests panic know a test by this attribute.
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod image;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod power;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod shim;
#[cfg(test)]
mod soak;
#[cfg(test)]
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests of tests/it, which use all of it")]
mod support;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod workload;

/// So many rounds, by the form that was asked for.
#[cfg(test)]
fn rounds(short: usize, long: usize) -> usize {
    if std::env::var("BREVDUE_TESTS").is_ok_and(|form| form == "long") { long } else { short }
}

/// Figures, for whoever looks at the output.
#[cfg(test)]
fn report(figures: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{figures}\n").as_bytes()).unwrap();
}

/// Does something with each, four at a time: mostly that waits for sled's threads to end.
#[cfg(test)]
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<(&T, R)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let one = || {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
            done.push((item, work(item)));
        }
        done
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
