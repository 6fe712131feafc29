use super::{
    super::fuzzing::{fuzz_wal, same_again},
    *,
};

const STORE: StoreId = [7; 16];

fn header(segment: u64) -> Header {
    Header { segment, store: STORE, commits_before: 4 }
}

fn batch(number: u8) -> Batch {
    let set = (vec![b'k', number], Some(vec![number; 50]));
    Batch(vec![set, (vec![b'x', number], None)])
}

/// A segment with `count` commits, and where each of them ends.
fn segment(number: u64, count: u8) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = first_page(header(number));
    let mut ends = Vec::new();
    for index in 0..count {
        bytes.extend(encode(&header(number), index.into(), &batch(index)));
        ends.push(bytes.len());
    }
    // Shorter than on disk: the format does not know where a segment ends.
    bytes.resize(2 * FIRST_PAGE, 0);
    (bytes, ends)
}

/// Changes the header and seals it again.
pub(in super::super) fn reseal(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let header = codec::split(bytes).unwrap().0.to_vec();
    let header = codec::tests::reseal(header, change);
    bytes[..header.len()].copy_from_slice(&header);
}

fn read(bytes: &[u8]) -> Segment {
    Segment::read(bytes).unwrap().unwrap()
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Segment::read(&[0; 2 * FIRST_PAGE]), Ok(None));
    let (bytes, ends) = segment(5, 3);
    let commits = (0..3).map(batch).collect();
    let expected = Segment { header: header(5), commits, end: ends[2], damaged: false };
    assert_eq!(read(&bytes), expected);
    assert!(Segment::read(&bytes[..FIRST_PAGE - 1]).is_err());
}

#[test]
fn a_commit_that_was_cut_short_at_any_byte_is_the_end() {
    let (bytes, ends) = segment(5, 3);
    for cut in ends[1]..ends[2] {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        // The last bytes are zeros anyway: the last change has no value.
        let whole = torn == bytes;
        let (count, end) = if whole { (3, ends[2]) } else { (2, ends[1]) };
        let read = read(&torn);
        assert_eq!((read.commits.len(), read.end, read.damaged), (count, end, false), "{cut}");
    }
}

#[test]
fn what_replaces_a_commit_that_was_cut_short_is_read_whatever_of_it_is_left() {
    let (bytes, ends) = segment(5, 3);
    let shorter = Batch(vec![(vec![b'y'], None)]);
    let replaced = encode(&header(5), 2, &shorter);
    for cut in ends[1]..ends[2] {
        let mut torn = bytes.clone();
        torn[cut..ends[2]].fill(0xff);
        torn[ends[1]..ends[1] + replaced.len()].copy_from_slice(&replaced);
        let read = read(&torn);
        assert_eq!(read.commits, [batch(0), batch(1), shorter.clone()], "{cut}");
        assert_eq!((read.end, read.damaged), (ends[1] + replaced.len(), false), "{cut}");
    }
}

#[test]
fn a_commit_behind_one_that_cannot_be_read_is_damage_and_is_read() {
    let (bytes, ends) = segment(5, 4);
    for place in ends[0]..ends[1] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        let read = read(&flipped);
        assert!(read.damaged, "{place}");
        assert_eq!(read.commits, [batch(0), batch(2), batch(3)], "{place}");
    }
}

#[test]
fn what_the_segment_held_before_does_not_count() {
    let (mut bytes, ends) = segment(5, 1);
    let (old, _) = segment(3, 9);
    bytes[ends[0]..].copy_from_slice(&old[ends[0]..]);
    let read = read(&bytes);
    assert_eq!((read.commits, read.damaged), (vec![batch(0)], false));
}

#[test]
fn a_commit_in_a_value_is_never_taken_for_one() {
    // Who sends a value can know the format, and guess the segment and the index.
    let stranger = Header { store: [0; 16], ..header(5) };
    let forged = encode(&stranger, 1, &batch(9));
    let honest = encode(&header(5), 1, &batch(9));
    for (value, is_damage) in [(forged, false), (honest, true)] {
        let carrier = Batch(vec![(vec![b'v'], Some(value))]);
        let mut bytes = first_page(header(5));
        bytes.extend(encode(&header(5), 0, &carrier));
        let end = bytes.len();
        assert_eq!(read(&bytes).commits, [carrier]);
        // Its own head is torn, and the value is all that the disk has of it.
        bytes[FIRST_PAGE..FIRST_PAGE + FRAME].fill(0);
        bytes.resize(end + FIRST_PAGE, 0);
        let read = read(&bytes);
        assert_eq!(read.damaged, is_damage, "only who knows the store's id can do it");
        assert_eq!(read.commits.is_empty(), !is_damage);
    }
}

#[test]
fn a_segment_whose_beginning_is_damaged_is_refused() {
    let len = codec::encode(Kind::SEGMENT, &header(5)).len();
    for place in 0..len {
        let (mut bytes, _) = segment(5, 2);
        bytes[place] ^= 1;
        let error = Segment::read(&bytes).unwrap_err();
        assert_ne!(error, Malformed::VERSION, "{place}");
    }
}

#[test]
fn a_segment_that_has_commits_and_no_beginning_is_refused() {
    let (mut bytes, _) = segment(5, 2);
    bytes[..FIRST_PAGE].fill(0);
    assert!(Segment::read(&bytes).is_err());
}

#[test]
fn a_beginning_that_is_whole_in_another_version_is_not_damage() {
    let (mut bytes, _) = segment(5, 2);
    reseal(&mut bytes, |page| page[0] += 1);
    assert_eq!(Segment::read(&bytes), Err(Malformed::VERSION));
}

/// The payload of a commit with one change, behind the mark.
fn payload(index: u8, form: u8, value: &[u8]) -> Vec<u8> {
    [&[index, 1, 3], &b"key"[..], &[form], value].concat()
}

#[test]
fn a_change_in_another_form_than_is_written_is_no_commit() {
    let whole = [(0, 0, &b""[..]), (0, 1, b"\0"), (0, 1, b"\x01v")];
    let other = [(1, 1, &b"\x01v"[..]), (0, 2, b"\x01v"), (0, 0, b"\x01v"), (0, 1, b"\x02v")];
    for (is_one, forms) in [(true, &whole[..]), (false, &other)] {
        for (index, form, value) in forms {
            assert_eq!(
                fuzz_wal(&payload(*index, *form, value)),
                is_one,
                "{index} {form} {value:?}"
            );
        }
    }
    assert!(!fuzz_wal(&[payload(0, 1, b"\x01v"), vec![0]].concat()), "bytes are left over");
}

#[test]
#[should_panic(expected = "it is written longer")]
fn the_fuzz_door_notices_what_it_is_there_for() {
    let (bytes, ends) = segment(5, 2);
    let mut read = read(&bytes);
    read.end = ends[0];
    same_again(&read);
}
