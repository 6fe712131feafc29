//! A door for fuzz targets, which see only what is public. Nothing in the program uses it.

use super::segment::{FIRST_PAGE, Header, Segment, encode, first_page};
use crate::store::codec::{FRAME, Kind, seal};

/// Reads these bytes as a segment, behind a beginning that is right, and as a commit behind a frame
/// and a mark that are right. Panics if what it reads is not what is read when it is written again.
/// Returns whether that commit is one.
#[doc(hidden)]
pub fn fuzz_wal(bytes: &[u8]) -> bool {
    let header = Header { segment: 3, store: [7; 16], commits_before: 1 };
    let commit = seal(Kind::COMMIT, [&[0; FRAME], &header.mark()[..], bytes].concat());
    let beginning = first_page(header);
    let forms =
        [bytes.to_vec(), [beginning.as_slice(), bytes].concat(), [beginning, commit].concat()];
    let read = forms.map(|mut bytes| {
        bytes.resize(bytes.len().max(FIRST_PAGE), 0);
        let segment = Segment::read(&bytes).ok().flatten().filter(|segment| !segment.damaged);
        segment.inspect(same_again)
    });
    let [.., last] = read;
    last.is_some_and(|segment| segment.commits.len() == 1)
}

/// Panics if what was read is not what is read when it is written again.
pub(super) fn same_again(segment: &Segment) {
    let mut again = first_page(segment.header);
    for (index, batch) in (0..).zip(&segment.commits) {
        again.extend(encode(&segment.header, index, batch));
    }
    // A number can be written in more bytes than it is here.
    assert!(again.len() <= segment.end, "it is written longer");
    let read = Segment::read(&again).ok().flatten().map(|again| (again.header, again.commits));
    let same = read
        .is_some_and(|(header, commits)| (header, &commits) == (segment.header, &segment.commits));
    assert!(same, "it reads as another");
}
