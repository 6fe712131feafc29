//! Power loss by the strict model of `image`: a process works, its file calls are written down,
//! and what a disk may hold at any moment of it is opened and looked at.
//!
//! The same is done with a sync taken out. There it must find losses: so the test can.

use std::{path::Path, process::Stdio};

use fastrand::Rng;
use tempfile::TempDir;

use crate::{
    image::{self, Cut},
    ledger::Expected,
    recording::{Act, PAGE, Recording},
    report, rounds,
    shim::{Shim, Weak},
    side_by_side,
    verify::{Fault, verify},
    workload::Workload,
};

const KEPT: [f64; 3] = [0.0, 0.5, 0.95];
/// Images of one recording.
const IMAGES: usize = 30;

/// One recorded run.
pub(crate) struct Run {
    pub(crate) recording: Recording,
    pub(crate) seed: u64,
}

impl Run {
    fn new(seed: u64, events: usize, weak: Option<Weak>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("watched");
        std::fs::create_dir(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let log = folder.path().join("log");
        let shim = Shim::new(&root, folder.path()).recording(log.clone()).without(weak);
        let ledger = root.join("ledger");
        let mut command =
            Workload { folder: root.clone(), ledger, seed, events, sick: false }.command();
        shim.stand_between(&mut command);
        let status = command.stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "the workload failed");
        Self { recording: Recording::read(&log, &root), seed }
    }

    /// What was asked for and told until then.
    pub(crate) fn expected(&self, at: u64) -> Expected {
        let lines = self.recording.written_to("ledger");
        let lines = lines.iter().filter(|(start, _)| *start < at).flat_map(|(_, line)| *line);
        Expected::read(std::str::from_utf8(&lines.copied().collect::<Vec<_>>()).unwrap())
    }

    /// Moments of every kind: any, around syncs, and just after something was told.
    pub(crate) fn cuts(&self, count: usize) -> Vec<Cut> {
        let mut chance = Rng::with_seed(self.seed);
        let told: Vec<u64> = self
            .recording
            .written_to("ledger")
            .iter()
            .filter_map(|(start, line)| line.starts_with(b"!").then_some(start + 1))
            .collect();
        let mut syncs = Vec::new();
        for call in &self.recording.calls {
            if let Act::Sync { .. } | Act::SyncFolder { .. } = call.act {
                syncs.extend([call.start, call.start + 1, call.end, call.end + 1]);
            }
        }
        let first = told[0];
        syncs.retain(|at| *at > first);
        (0..count)
            .map(|number| {
                let at = match number % 3 {
                    0 => chance.u64(first..self.recording.end()),
                    1 => *chance.choice(&told).unwrap(),
                    _ => chance.choice(&syncs).copied().unwrap_or(first),
                };
                Cut { at, kept: KEPT[number / 3 % 3], seed: chance.u64(..) }
            })
            .collect()
    }

    /// Moments after a segment of the write-ahead log was begun; sure is only what was synced.
    fn cuts_after_a_segment_was_begun(&self) -> Vec<Cut> {
        let wal = self.recording.file("queue/store/wal").unwrap();
        let mut began = None;
        let mut cuts = Vec::new();
        for call in &self.recording.calls {
            // What the log writes when it begins a segment.
            if let Act::Write { file, data, .. } = &call.act
                && (*file, data.len()) == (wal, PAGE)
            {
                began = Some(call.end);
            }
            if matches!(&call.act, Act::Sync { file } if *file == wal)
                && began.take_if(|began| *began < call.start).is_some()
            {
                cuts.push(Cut { at: call.end + 1, kept: 0.0, seed: self.seed });
            }
        }
        cuts
    }

    pub(crate) fn image(&self, cut: Cut) -> Result<(), Fault> {
        let folder = quick_folder();
        image::build(&self.recording, cut, folder.path());
        verify(folder.path(), &self.expected(cut.at))
    }
}

/// A folder in memory, if there is one: an image's own syncs do not matter.
pub(crate) fn quick_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn whatever_a_power_loss_leaves_opens_and_holds_all_that_was_answered() {
    let (runs, mut images, mut faults) = (rounds(2, 12), 0, Vec::new());
    let mut stored = 0;
    for seed in 1..=u64::try_from(runs).unwrap() {
        let run = Run::new(seed, 500, None);
        stored += run.expected(run.recording.end()).stored.len();
        let cuts = run.cuts(IMAGES);
        images += cuts.len();
        for (cut, result) in side_by_side(&cuts, |cut| run.image(*cut)) {
            faults.extend(result.err().map(|fault| format!("seed {seed}, {cut:?}: {fault}")));
        }
    }
    report(&format!("power loss: {images} images of {stored} events, {} faults", faults.len()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What became of images of a run with one of its syncs taken out.
#[derive(Debug, Default)]
struct Remains {
    whole: usize,
    refused: usize,
    lost: usize,
    other: usize,
}

impl Remains {
    fn of(run: &Run, cuts: &[Cut]) -> Self {
        let mut remains = Self::default();
        for (_, result) in side_by_side(cuts, |cut| run.image(*cut)) {
            match result {
                Ok(()) => remains.whole += 1,
                Err(Fault::Refused(_)) => remains.refused += 1,
                Err(Fault::Wrong(_)) => remains.lost += 1,
                Err(Fault::Panics | Fault::Hangs) => remains.other += 1,
            }
        }
        remains
    }
}

#[test]
fn without_the_sync_of_the_log_the_same_images_lose_what_was_answered() {
    let run = Run::new(1, 500, Some(Weak::Wal));
    let images = rounds(12, 120);
    let remains = Remains::of(&run, &run.cuts(images));
    report(&format!("power loss without the log's sync: {images} images, {remains:?}"));
    assert!(remains.whole * 2 < images, "the model does not find what a missing sync loses");
}

/// What sled loses, the log still has; but not when a segment was begun anew, because sled said that
/// all was durable.
#[test]
fn without_the_durable_flush_what_the_log_gave_up_is_lost() {
    // Long enough that both segments are begun anew.
    const EVENTS: usize = 4000;
    let runs = rounds(1, 6);
    let (mut images, mut told) = (0, Vec::new());
    for seed in 1..=u64::try_from(runs).unwrap() {
        for weak in [Some(Weak::Database), None] {
            let run = Run::new(seed, EVENTS, weak);
            let cuts = run.cuts_after_a_segment_was_begun();
            let remains = Remains::of(&run, &cuts);
            assert!(!cuts.is_empty(), "no segment was begun");
            if weak.is_some() {
                images += cuts.len();
                told.push(remains);
            } else {
                assert_eq!(remains.whole, cuts.len(), "{remains:?}");
            }
        }
    }
    report(&format!("power loss without the durable flush, {images} images are: {told:?}"));
    // Of a few runs one may lose nothing: sled's own calls write, too, though they promise nothing.
    let whole: usize = told.iter().map(|remains| remains.whole).sum();
    assert!(whole < images, "the model does not find what is lost then");
}
