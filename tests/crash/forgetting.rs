//! A disk that fails a sync and forgets: what the sync was for is in the cache and on no disk,
//! and later syncs succeed without it. A process works on it through failing syncs; then the power
//! goes, by the strict model of `image`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use fastrand::Rng;

use crate::{
    image::Cut,
    power::Run,
    recording::{Act, Recording},
    report, rounds,
    shim::{COMMITS, Call, DATABASE, Shim},
    side_by_side,
    support::eventually,
    workload::Workload,
};

/// Images of one run.
const IMAGES: usize = 20;
/// Processes that a run may take: one may end with its disk.
const PROCESSES: u64 = 5;

/// A process at work on a sick disk.
struct Worker {
    child: Child,
    ledger: PathBuf,
    /// Bytes of the ledger when the disk last failed.
    told: u64,
}

impl Worker {
    fn start(root: &Path, seed: u64, shim: &Shim) -> Self {
        let ledger = root.join("ledger");
        let (folder, ledger_) = (root.to_owned(), ledger.clone());
        let workload = Workload { folder, ledger: ledger_, seed, events: 300, sick: true };
        let mut command = workload.command();
        shim.stand_between(&mut command);
        let told = length(&ledger);
        Self { child: command.stdout(Stdio::null()).spawn().unwrap(), ledger, told }
    }

    /// Some syncs fail at some moment, and then it has some time to work.
    async fn suffers(&mut self, shim: &Shim, chance: &mut Rng) -> Option<bool> {
        let times = chance.u64(1..4);
        let which = (chance.i64(0..10), times.try_into().unwrap());
        let file = chance.choice(["", DATABASE, DATABASE, COMMITS]).unwrap();
        shim.fail(Call::Sync, file, libc::EIO, which);
        let ended = self.until(|_| shim.hits() >= times).await;
        shim.mend();
        let more = chance.u64(200..8000);
        self.told = length(&self.ledger);
        let told = self.told;
        ended.or(self.until(|ledger| length(ledger) > told + more).await)
    }

    /// Waits for this, or for the end of the process, and how that was.
    async fn until(&mut self, is_so: impl Fn(&Path) -> bool) -> Option<bool> {
        eventually("the next step of a worker on a sick disk", || {
            let ended = self.child.try_wait().unwrap().map(|status| status.success());
            let seen = ended.map(Some).or_else(|| is_so(&self.ledger).then_some(None));
            std::future::ready(seen)
        })
        .await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn length(ledger: &Path) -> u64 {
    fs::metadata(ledger).map_or(0, |ledger| ledger.len())
}

/// A run through failing syncs, and how many processes it took.
async fn run(seed: u64) -> (Run, u64) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("watched");
    fs::create_dir(&root).unwrap();
    let (root, log) = (root.canonicalize().unwrap(), folder.path().join("log"));
    let shim = Shim::new(&root, folder.path()).recording(log.clone());
    let shim = shim.forgetting(folder.path().join("disk"));
    let mut chance = Rng::with_seed(seed);
    for process in 1..=PROCESSES {
        let mut worker = Worker::start(&root, seed * 10 + process, &shim);
        loop {
            match worker.suffers(&shim, &mut chance).await {
                None => {}
                Some(false) => break,
                Some(true) => {
                    let recording = Recording::read(&log, &root);
                    return (Run { recording, seed }, process);
                }
            }
        }
    }
    panic!("{PROCESSES} processes ended before their work was done");
}

/// Moments after the first failure.
fn cuts(run: &Run) -> Vec<Cut> {
    let calls = run.recording.calls.iter();
    let mut failed =
        calls.filter(|call| matches!(call.act, Act::FailedSync { .. })).map(|call| call.end);
    let first = failed.next().expect("a sync that failed");
    let mut cuts = run.cuts(10 * IMAGES);
    cuts.retain(|cut| cut.at > first);
    cuts.truncate(IMAGES);
    cuts
}

#[tokio::test]
async fn what_was_answered_outlives_a_disk_that_fails_and_forgets() {
    let (mut images, mut stored, mut failures, mut faults) = (0, 0, 0, Vec::new());
    for seed in 1..=u64::try_from(rounds(3, 18)).unwrap() {
        let (run, processes) = run(seed).await;
        let acts = run.recording.calls.iter().map(|call| &call.act);
        failures += acts.filter(|act| matches!(act, Act::FailedSync { .. })).count();
        stored += run.expected(run.recording.end()).stored.len();
        let cuts = cuts(&run);
        images += cuts.len();
        for (cut, result) in side_by_side(&cuts, |cut| run.image(*cut)) {
            let told = |fault| format!("seed {seed}, {processes} processes, {cut:?}: {fault}");
            faults.extend(result.err().map(told));
        }
    }
    report(&format!(
        "a disk that forgets: {images} images of {stored} events, {failures} failed syncs of \
         files, {} faults",
        faults.len()
    ));
    assert!(images > 0, "nothing was looked at");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
