use std::fs;

use tempfile::TempDir;

use super::{
    segment::{FIRST_PAGE, SEGMENT},
    *,
};

const STORE: StoreId = [7; 16];

/// A directory with a write-ahead log in it.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("wal")
    }

    /// With a checkpoint at this segment and this number of commits in it.
    fn open(&self, (segment, commits): (u64, u32)) -> Result<(Wal, Vec<u32>), Error> {
        let checkpoint = Position { segment, commits };
        let (wal, commits) = Wal::open(&self.path(), STORE, checkpoint, &Disk::default())?;
        Ok((wal, commits.iter().map(number).collect()))
    }

    /// The numbers of the commits that are to be replayed.
    fn replayed(&self, checkpoint: (u64, u32)) -> Vec<u32> {
        self.open(checkpoint).unwrap().1
    }

    fn refused(&self, checkpoint: (u64, u32)) -> Error {
        self.open(checkpoint).unwrap_err()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path()).unwrap();
        change(&mut bytes);
        fs::write(self.path(), bytes).unwrap();
    }
}

/// A commit with this number and a value of this length.
fn batch(number: u32, len: usize) -> Batch {
    Batch(vec![(number.to_be_bytes().to_vec(), Some(vec![1; len]))])
}

fn number(batch: &Batch) -> u32 {
    let (key, _) = batch.0.first().unwrap();
    u32::from_be_bytes(key.as_slice().try_into().unwrap())
}

const TENTH: usize = SEGMENT / 10;

/// Commits of a tenth of a segment each, the other segment begun when one is full.
fn fill(wal: &mut Wal, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let batch = batch(number, TENTH);
        if !wal.has_room(&batch) {
            wal.begin_next().unwrap();
        }
        wal.append(&batch).unwrap();
    }
}

/// 12 commits: 9 in segment 1, which is in the second half of the file, and 3 in segment 2.
fn two_segments() -> Bench {
    let bench = Bench::new();
    fill(&mut bench.open((0, 0)).unwrap().0, 0..12);
    bench
}

#[test]
fn commits_from_the_checkpoint_on_are_replayed_in_order() {
    let bench = two_segments();
    assert_eq!(bench.replayed((1, 0)), (0..12).collect::<Vec<_>>());
    assert_eq!(bench.replayed((1, 4)), (4..12).collect::<Vec<_>>());
    assert_eq!(bench.replayed((2, 0)), [9, 10, 11]);
    assert_eq!(bench.replayed((2, 3)), [0; 0]);
    let (wal, _) = bench.open((2, 3)).unwrap();
    let now = wal.now();
    assert_eq!((now.position, now.written), (Position { segment: 2, commits: 3 }, 0));
}

#[test]
fn it_goes_round_and_keeps_the_last_two_segments() {
    let bench = Bench::new();
    fill(&mut bench.open((0, 0)).unwrap().0, 0..100);
    // 9 go into a segment.
    assert_eq!(bench.replayed((11, 0)), (90..100).collect::<Vec<_>>());
    assert_eq!(bench.replayed((12, 0)), [99]);
}

#[test]
fn opened_again_and_again_it_goes_on_where_it_was() {
    let bench = Bench::new();
    for round in 0..30_u32 {
        let checkpoint = (u64::from(round / 9), 0);
        let (mut wal, replayed) = bench.open(checkpoint).unwrap();
        let first = (round / 9).saturating_sub(1) * 9;
        assert_eq!(replayed, (first..round).collect::<Vec<_>>());
        fill(&mut wal, round..round + 1);
    }
}

#[test]
fn after_a_torn_commit_it_goes_on_in_the_same_segment_and_is_recovered_again() {
    let bench = Bench::new();
    let (mut wal, _) = bench.open((0, 0)).unwrap();
    wal.append(&batch(0, 60)).unwrap();
    let begin = SEGMENT + wal.at;
    wal.append(&batch(1, 60)).unwrap();
    let end = SEGMENT + wal.at;
    let whole = fs::read(bench.path()).unwrap();
    // Every byte is tried where segments are read; here it is the file.
    for cut in (begin..end).step_by(11) {
        bench.change(|bytes| {
            bytes.clone_from(&whole);
            bytes[cut..end].fill(0);
        });
        let (mut wal, replayed) = bench.open((1, 0)).unwrap();
        assert_eq!(replayed, [0], "{cut}");
        // Shorter than the torn one, whose rest stays behind it.
        wal.append(&batch(7, 3)).unwrap();
        wal.append(&batch(8, 200)).unwrap();
        let (mut wal, replayed) = bench.open((1, 1)).unwrap();
        assert_eq!(replayed, [7, 8], "{cut}");
        wal.begin_next().unwrap();
        wal.append(&batch(9, 3)).unwrap();
        assert_eq!(bench.replayed((1, 0)), [0, 7, 8, 9], "{cut}");
    }
}

#[test]
fn a_commit_that_fits_nowhere_is_told_before_it_is_written() {
    let largest = SEGMENT - FIRST_PAGE - size(&batch(0, 0));
    assert!(Wal::fits(&batch(0, largest)) && !Wal::fits(&batch(0, largest + 1)));
    let bench = Bench::new();
    let (mut wal, _) = bench.open((0, 0)).unwrap();
    assert!(wal.has_room(&batch(0, largest)));
    wal.append(&batch(0, largest)).unwrap();
    assert!(!wal.has_room(&batch(1, 0)));
    wal.begin_next().unwrap();
    wal.append(&batch(1, largest)).unwrap();
    assert_eq!(bench.replayed((1, 0)), [0, 1]);
}

#[test]
fn one_that_is_not_right_is_refused_with_what_is_wrong() {
    type Change = fn(&mut Vec<u8>);
    /// Where the commits of segment 1 begin.
    const FIRST: usize = SEGMENT + FIRST_PAGE;
    let cases: &[(&str, Change)] = &[
        ("is cut short", |bytes| bytes.truncate(SEGMENT)),
        ("is missing", Vec::clear),
        ("the beginning of a segment", |bytes| bytes[SEGMENT..][..FIRST_PAGE].fill(0)),
        ("the beginning of a segment", |bytes| bytes[..FIRST_PAGE].fill(0)),
        ("a segment is missing", |bytes| bytes[SEGMENT..].fill(0)),
        ("the beginning of a segment", |bytes| bytes[8] ^= 1),
        ("a commit is damaged", |bytes| bytes[FIRST + 30] ^= 1),
        ("a commit is damaged", |bytes| bytes[FIRST_PAGE + 30] ^= 1),
        // The last one of segment 1: nothing is behind it, but segment 2 counts it.
        ("a commit is damaged", |bytes| bytes[FIRST + 8 * (TENTH + 60)] ^= 1),
        ("a commit is damaged", |bytes| bytes[FIRST + 8 * TENTH..].fill(0)),
        ("mixed up", |bytes| bytes.rotate_left(SEGMENT)),
    ];
    for (case, (words, change)) in cases.iter().enumerate() {
        let bench = two_segments();
        bench.change(change);
        let error = bench.refused((1, 2));
        assert!(matches!(&error, Error::Damaged(told) if told.contains(words)), "{case}: {error}");
    }
}

#[test]
fn random_bytes_are_damage_and_a_whole_header_of_another_version_is_not() {
    let random = |bytes: &mut Vec<u8>| {
        fastrand::seed(5);
        for half in [0, SEGMENT] {
            bytes[half..half + FIRST_PAGE].fill_with(|| fastrand::u8(..));
        }
    };
    let bench = two_segments();
    bench.change(random);
    assert!(matches!(bench.refused((1, 0)), Error::Damaged(_)));
    for half in [0, SEGMENT] {
        let bench = two_segments();
        bench.change(|bytes| segment::tests::reseal(&mut bytes[half..], |page| page[0] += 1));
        assert!(matches!(bench.refused((1, 0)), Error::Version(_)), "{half}");
    }
}

#[test]
fn one_that_does_not_reach_the_checkpoint_or_is_far_behind_it_is_refused() {
    let bench = two_segments();
    for (checkpoint, words) in [
        ((2, 4), "its last commits are missing"),
        ((1, 10), "its last commits are missing"),
        ((3, 0), "of the same time"),
        ((0, 0), "of the same time"),
    ] {
        let told = bench.refused(checkpoint).to_string();
        assert!(told.contains(words), "{checkpoint:?}: {told}");
    }
    fs::remove_file(bench.path()).unwrap();
    assert!(bench.refused((1, 0)).to_string().contains("is missing"));
}

#[test]
fn one_of_another_store_is_refused() {
    let bench = two_segments();
    let checkpoint = Position { segment: 2, commits: 0 };
    let opened = Wal::open(&bench.path(), [8; 16], checkpoint, &Disk::default());
    let told = opened.unwrap_err().to_string();
    assert!(told.contains("another store's"), "{told}");
}

#[test]
fn one_that_is_being_made_is_made_anew() {
    let bench = Bench::new();
    for len in [0, 1, SEGMENT, SIZE - 1, SIZE] {
        fs::write(bench.path(), vec![0; len]).unwrap();
        assert_eq!(bench.replayed((0, 0)), [0; 0]);
        assert_eq!(fs::metadata(bench.path()).unwrap().len(), SIZE_U64);
        // Its first segment is begun; sled may not have noted that yet.
        assert_eq!(bench.replayed((0, 0)), [0; 0]);
    }
}

#[test]
fn a_segment_that_could_not_be_begun_leaves_the_one_before_it_to_go_on() {
    let bench = Bench::new();
    let disk = Disk::default();
    let (mut wal, _) = Wal::open(&bench.path(), STORE, Position::default(), &disk).unwrap();
    fill(&mut wal, 0..9);
    disk.put_in_the_way(Class::Write, crate::store::disk::fault::Fault::Fails(libc::EIO), 1);
    assert!(wal.begin_next().is_err());
    assert_eq!(wal.now().position, Position { segment: 1, commits: 9 });
    assert_eq!(bench.replayed((1, 0)), (0..9).collect::<Vec<_>>());
    // Its page is on the disk, though nobody heard so.
    let (mut wal, _) = bench.open((1, 0)).unwrap();
    wal.begin_next().unwrap();
    drop(wal);
    let (mut wal, replayed) = bench.open((1, 0)).unwrap();
    assert_eq!((replayed, wal.now().position.segment), ((0..9).collect(), 2));
    fill(&mut wal, 9..10);
    assert_eq!(bench.replayed((1, 0)), (0..10).collect::<Vec<_>>());
}
