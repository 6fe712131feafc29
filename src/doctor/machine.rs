//! What can be seen on this machine: files, the disk, and what waits in the queue.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    failures::mode_fault,
    report::{Finding, Report},
};
use crate::{
    admin::schema,
    clock::Clock,
    config::{Config, SourceAuth},
    secret::SecretFile,
};

const FILES: &str = "secret files";
const SPACE: &str = "disk space";
const SYNC: &str = "sync time";
const QUEUE: &str = "queue age";
/// So many syncs are timed, and the middle one counts.
const SYNCS: usize = 9;
/// Every group of events waits for one; a disk that takes longer cannot keep up with a burst.
const SLOW: Duration = Duration::from_millis(500);
/// An event that waits longer than this has met more than one retry.
const OLD: Duration = Duration::from_secs(60 * 60);

/// Every check of this machine; `status` is what a running daemon says.
pub fn check(
    config: &Config,
    status: Option<&schema::Status>,
    clock: &Clock,
    report: &mut Report<'_>,
) {
    report.add(files(config));
    report.add(space(config));
    report.add(sync_time(&config.data_dir));
    report.add(queue(status, clock));
}

/// Every file with a secret in it, the configured ones and those that brevdue made.
fn secrets(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<&SecretFile> = Vec::new();
    files.extend(config.server.tls.as_ref().map(|tls| &tls.key_file));
    files.extend(config.admin.token_file.as_ref());
    if let Some(altinn) = &config.altinn {
        files.push(&altinn.maskinporten.key_file);
        files.extend(altinn.api_key_file.as_ref());
    }
    files.extend(config.subscriptions.values().filter_map(|one| one.secret_file.as_ref()));
    for source in config.sources.values() {
        match &source.auth {
            SourceAuth::Bearer { file } | SourceAuth::StandardWebhooks { file, .. } => {
                files.push(file);
            }
            SourceAuth::AllowFrom => {}
        }
    }
    let mut paths: Vec<_> = files.into_iter().map(|file| file.path().to_owned()).collect();
    let made = fs::read_dir(config.data_dir.join("secrets")).into_iter().flatten();
    paths.extend(made.flatten().map(|entry| entry.path()));
    paths
}

fn files(config: &Config) -> Finding {
    let all = secrets(config);
    let faults: Vec<_> = all.iter().filter_map(|path| mode_fault(path)).collect();
    if !faults.is_empty() {
        let cure = "chmod 600 (or 640): only brevdue, and perhaps its group, may read them";
        return Finding::bad(FILES, faults.join(", "), cure);
    }
    let unseen = all.iter().filter(|path| path.metadata().is_err()).count();
    let seen = match unseen {
        0 => format!("{}, none of them open to others", all.len()),
        _ => format!("{}, of which {unseen} cannot be seen by this user", all.len()),
    };
    Finding::good(FILES, seen)
}

fn space(config: &Config) -> Finding {
    let place = existing(&config.data_dir);
    let free = match rustix::fs::statvfs(place) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return Finding::skipped(SPACE, io::Error::from(error).to_string()),
    };
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let wanted = config.queue.min_free_disk;
    let seen = format!("{} MiB free; queue.min_free_disk is {} MiB", mib(free), mib(wanted));
    if free < wanted {
        Finding::bad(SPACE, seen, "make room: until then senders get 503")
    } else {
        Finding::good(SPACE, seen)
    }
}

/// The directory, or the nearest above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"))
}

/// On a file without a name, which is gone when it is closed.
fn sync_time(data_dir: &Path) -> Finding {
    match timed(data_dir) {
        Err(error) => {
            let why = format!("cannot write in {}: {error}", data_dir.display());
            Finding::skipped(SYNC, why)
        }
        Ok(time) => {
            let seen = format!("{:.1} ms", time.as_secs_f64() * 1000.0);
            if time > SLOW {
                let cure = "put data_dir on a local disk that is quicker and less busy";
                Finding::bad(SYNC, seen, cure)
            } else {
                Finding::good(SYNC, seen)
            }
        }
    }
}

fn timed(data_dir: &Path) -> io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(data_dir)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

fn queue(status: Option<&schema::Status>, clock: &Clock) -> Finding {
    let Some(status) = status else {
        return Finding::skipped(QUEUE, "no daemon answers on admin.socket, or not to this user");
    };
    let now = clock.now();
    let oldest = status.handlers.iter().filter_map(|one| Some((one.oldest?, one)));
    let Some((since, handler)) = oldest.min_by_key(|(since, _)| *since) else {
        return Finding::good(QUEUE, "nothing waits");
    };
    let age = now.since(since);
    let seen = format!("the oldest event has waited {} s for {}", age.as_secs(), handler.name);
    if age > OLD {
        let cure = "see why that handler does not take it: `brevdue status`, and the log";
        Finding::bad(QUEUE, seen, cure)
    } else {
        Finding::good(QUEUE, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, doctor::report::Outcome};

    fn waiting(oldest: Option<Timestamp>) -> schema::Status {
        let handler = serde_json::json!({
            "name": "arkiv", "configured": true, "pending": 1, "in_flight": 0, "retrying": 1,
            "dead_letters": 0, "oldest": oldest,
        });
        let status = serde_json::json!({
            "version": "0", "ready": true, "state": "ok", "subscriptions": [],
            "log": {
                "events": 1, "live_bytes": 1, "dedup_ids": 1, "raw_dead_letters": 0,
                "unmatched": { "count": 0, "last_type": null, "last_at": null },
            },
            "handlers": [handler],
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn an_event_that_waits_for_hours_is_bad() {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let before = |seconds| Some(clock.now().before(Duration::from_secs(seconds)));
        for (oldest, outcome) in [
            (None, Outcome::Good),
            (before(0), Outcome::Good),
            (before(3600), Outcome::Good),
            (before(3601), Outcome::Bad),
        ] {
            assert_eq!(queue(Some(&waiting(oldest)), &clock).outcome, outcome, "{oldest:?}");
        }
        assert_eq!(queue(None, &clock).outcome, Outcome::Skipped);
    }

    #[test]
    fn the_sync_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert_ne!(sync_time(folder.path()).outcome, Outcome::Skipped);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(sync_time(&folder.path().join("none")).outcome, Outcome::Skipped);
    }
}
