//! The format of a segment of the write-ahead log, and how much of one counts.
//!
//! The first page says which segment it is, and how many commits the one before it had; commits
//! follow each other, each synced before the next is written. So the first bytes that are no commit
//! are the end, and a commit behind them is damage. Each begins with a mark that nobody outside
//! knows: bytes of an event are never taken for a commit.

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use crate::store::{
    batch::{Batch, Change},
    codec::{self, FRAME, Kind, Malformed},
    trees::StoreId,
};

/// Bytes of a segment. No commit goes over its end.
pub(super) const SEGMENT: usize = 8 * 1024 * 1024;
/// Bytes of the file, which has two.
pub(super) const SIZE: usize = 2 * SEGMENT;
pub(super) const SIZE_U64: u64 = 2 * 8 * 1024 * 1024;
/// Bytes of its first page.
pub(super) const FIRST_PAGE: usize = 4096;
/// Bytes that a commit takes beside its changes at most: frame, mark, index, count.
const HEAD: usize = FRAME + 16 + 5 + 5;
/// Bytes that a change takes beside its key and value at most: their lengths, and whether it has a
/// value.
const EACH: usize = 5 + 5 + 1;

/// The first page of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The segment's number.
    pub(super) segment: u64,
    /// Whose it is.
    pub(super) store: StoreId,
    /// Commits that the segment before it had when this one was begun.
    pub(super) commits_before: u32,
}

/// A commit as it is written.
#[derive(Serialize, Deserialize)]
struct Commit<'a> {
    mark: [u8; 16],
    /// Its place in the segment, from 0.
    index: u32,
    #[serde(borrow)]
    changes: Vec<(&'a Bytes, Option<&'a Bytes>)>,
}

/// A segment that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) commits: Vec<Batch>,
    /// Bytes up to the end of its last commit.
    pub(super) end: usize,
    /// A commit was found behind something that is none.
    pub(super) damaged: bool,
}

/// The first page of a segment.
pub(super) fn first_page(header: Header) -> Vec<u8> {
    let mut page = codec::encode(Kind::SEGMENT, &header);
    page.resize(FIRST_PAGE, 0);
    page
}

/// A commit, as it is written.
pub(super) fn encode(header: &Header, index: u32, batch: &Batch) -> Vec<u8> {
    let changes = batch
        .0
        .iter()
        .map(|(key, value)| (Bytes::new(key), value.as_deref().map(Bytes::new)))
        .collect();
    codec::encode(Kind::COMMIT, &Commit { mark: header.mark(), index, changes })
}

/// Bytes that a commit takes at most.
pub(super) fn size(batch: &Batch) -> usize {
    let change = |(key, value): &Change| EACH + key.len() + value.as_ref().map_or(0, Vec::len);
    HEAD + batch.0.iter().map(change).sum::<usize>()
}

impl Header {
    /// Begins every commit of this segment: its number, hidden by the store's id. Otherwise bytes of
    /// an event could be a commit, or look like the beginnings of thousands of them, whose checksums
    /// would take minutes at a start.
    pub(super) fn mark(&self) -> [u8; 16] {
        (u128::from_be_bytes(self.store) ^ u128::from(self.segment)).to_be_bytes()
    }

    /// Reads the first page; `None` if it was never written.
    fn decode(page: &[u8]) -> Result<Option<Self>, Malformed> {
        if page.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (header, _) = codec::split(page).ok_or(Malformed("a length"))?;
        codec::decode(Kind::SEGMENT, header).map(Some)
    }
}

impl Segment {
    /// `None` if it was never used.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let (page, commits) =
            bytes.split_at_checked(FIRST_PAGE).ok_or(Malformed("it is too short"))?;
        let Some(header) = Header::decode(page)? else {
            // The first page is synced before any commit is written behind it.
            let unused = commits.iter().all(|byte| *byte == 0);
            return if unused { Ok(None) } else { Err(Malformed("it is missing")) };
        };
        let mut segment = Self { header, commits: Vec::new(), end: FIRST_PAGE, damaged: false };
        segment.take(commits);
        Ok(Some(segment))
    }

    /// Takes the commits that follow each other, and those behind bytes that are none.
    fn take(&mut self, commits: &[u8]) {
        let (mut rest, mut end) = (commits, commits.len());
        while let Some(at) = memmem::find(rest, &Kind::COMMIT.tag()) {
            rest = rest.get(at..).unwrap_or_default();
            let next = self.commits.len();
            match self.commit(rest).filter(|(index, ..)| *index >= next) {
                Some((index, batch, behind)) => {
                    self.damaged |= rest.len() != end || index != next;
                    self.commits.push(batch);
                    rest = behind;
                    if !self.damaged {
                        end = rest.len();
                    }
                }
                None => rest = rest.get(1..).unwrap_or_default(),
            }
        }
        self.end += commits.len() - end;
    }

    /// The commit of this segment that begins here: its index, its changes, and the bytes behind it.
    fn commit<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Batch, &'a [u8])> {
        let (commit, rest) = codec::split(bytes)?;
        // Before the checksum, which takes time: there are many in a segment that is used again.
        if commit.get(FRAME..)?.first_chunk() != Some(&self.header.mark()) {
            return None;
        }
        let Commit { index, changes, .. } = codec::decode(Kind::COMMIT, commit).ok()?;
        let owned = |bytes: &Bytes| bytes.to_vec();
        let changes = changes.into_iter().map(|(key, value)| (owned(key), value.map(owned)));
        Some((usize::try_from(index).ok()?, Batch(changes.collect()), rest))
    }
}

#[cfg(test)]
pub(super) mod tests;
