use super::*;

const STORE: [u8; 16] = [7; 16];

fn entries(number: u8) -> Entries {
    vec![(vec![b'k', number], Some(vec![number; 50])), (vec![b'x', number], None)]
}

/// A half with so many commits, and where each of them ends.
fn half(generation: u64, count: u8) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = first_page(generation, STORE);
    let mut ends = Vec::new();
    for number in 0..count {
        bytes.extend(commit(generation, number.into(), &entries(number)));
        ends.push(bytes.len());
    }
    bytes.resize(HALF, 0);
    (bytes, ends)
}

fn read(bytes: &[u8]) -> Half {
    Half::read(bytes).unwrap().unwrap()
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Half::read(&vec![0; HALF]), Ok(None));
    let commits = (0..3).map(entries).collect();
    let expected = Half { generation: 5, store: STORE, commits, damaged: false };
    assert_eq!(read(&half(5, 3).0), expected);
}

#[test]
fn a_commit_that_was_cut_short_is_the_end() {
    let (bytes, ends) = half(5, 3);
    for cut in ends[1]..ends[2] {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        let half = read(&torn);
        // The last bytes are zeros anyway: the last entry has no value.
        let whole = torn == bytes;
        assert_eq!((half.commits.len(), half.damaged), (if whole { 3 } else { 2 }, false), "{cut}");
    }
}

#[test]
fn a_commit_behind_one_that_cannot_be_read_is_damage_and_is_read() {
    let (bytes, ends) = half(5, 4);
    for place in ends[0]..ends[1] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        let half = read(&flipped);
        assert!(half.damaged, "{place}");
        assert_eq!(half.commits, [entries(0), entries(2), entries(3)], "{place}");
    }
}

#[test]
fn what_the_half_held_before_does_not_count() {
    let (mut bytes, ends) = half(5, 1);
    let (old, _) = half(3, 9);
    bytes[ends[0]..].copy_from_slice(&old[ends[0]..]);
    let half = read(&bytes);
    assert_eq!((half.commits, half.damaged), (vec![entries(0)], false));
}

#[test]
fn a_half_whose_beginning_is_damaged_is_refused() {
    for place in 0..USED {
        let (mut bytes, _) = half(5, 2);
        bytes[place] ^= 1;
        assert!(Half::read(&bytes).is_err(), "{place}");
    }
}
