//! The format of a segment of the write-ahead log, and how much of one counts.
//!
//! The first page says which segment it is, and how many commits the one before it had; commits
//! follow each other, each synced before the next is written. So the first bytes that are no commit
//! are the end, and a commit behind them is damage. Checksums cover the store's id, which nobody
//! outside knows: bytes of an event are never taken for a commit.

use memchr::memmem;

use crate::store::{
    batch::{Batch, Change},
    codec::{Decoder, Encoder, FRAME, Kind, Malformed},
    trees::StoreId,
};

/// Bytes of a segment. No commit goes over its end.
pub(super) const SEGMENT: usize = 8 * 1024 * 1024;
/// Bytes of the file, which has two.
pub(super) const SIZE: usize = 2 * SEGMENT;
pub(super) const SIZE_U64: u64 = 2 * 8 * 1024 * 1024;
/// Bytes of its first page.
pub(super) const FIRST_PAGE: usize = 4096;
/// Bytes that its header takes: frame, number, store, commits of the one before.
const HEADER: usize = FRAME + 8 + 16 + 4;
/// Bytes of a commit before its changes: length, segment, index, count.
const HEAD: usize = 4 + 8 + 4 + 4;
/// Bytes of a change beside its key and value: their lengths, and whether it has a value.
const EACH: usize = 12;

/// What the first page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The segment's number.
    pub(super) segment: u64,
    /// Whose it is.
    pub(super) store: StoreId,
    /// Commits that the segment before it had when this one was begun.
    pub(super) commits_before: u32,
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
    let mut page = Encoder::new(Kind::SEGMENT);
    page.u64(header.segment).raw(&header.store).u32(header.commits_before);
    let mut page = page.seal();
    page.resize(FIRST_PAGE, 0);
    page
}

/// A commit, as it is written.
pub(super) fn encode(header: &Header, index: u32, batch: &Batch) -> Vec<u8> {
    let payload = size(batch) - FRAME;
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let mut commit = Encoder::with_capacity(Kind::COMMIT, payload);
    commit.u32(number(payload)).u64(header.mark()).u32(index).u32(number(batch.len()));
    for (key, value) in batch.iter() {
        commit.bytes(key).u32(u32::from(value.is_some()));
        commit.bytes(value.as_deref().unwrap_or_default());
    }
    commit.seal_with(&header.store)
}

/// Bytes that a commit takes.
pub(super) fn size(batch: &Batch) -> usize {
    let change = |(key, value): &Change| EACH + key.len() + value.as_ref().map_or(0, Vec::len);
    FRAME + HEAD + batch.iter().map(change).sum::<usize>()
}

impl Header {
    /// What every commit of this segment says: its number, which nobody outside can guess so.
    /// Otherwise bytes of an event could look like the beginnings of thousands of commits, whose
    /// checksums would take minutes at a start.
    fn mark(&self) -> u64 {
        let secret = self.store.first_chunk().copied().unwrap_or_default();
        self.segment ^ u64::from_be_bytes(secret)
    }

    /// What the first page says; `None` if it was never written.
    fn decode(page: &[u8]) -> Result<Option<Self>, Malformed> {
        if page.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut header = Decoder::open(Kind::SEGMENT, page.get(..HEADER).unwrap_or_default())?;
        let (segment, store) = (header.u64()?, header.array()?);
        let commits_before = header.u32()?;
        header.end()?;
        Ok(Some(Self { segment, store, commits_before }))
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
        let rest = segment.commits(commits);
        segment.end = bytes.len() - rest.len();
        segment.stray(rest);
        Ok(Some(segment))
    }

    /// Reads commits that follow each other; the bytes behind the last.
    fn commits<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while let Some((index, batch, after)) = self.commit(rest)
            && index == self.commits.len()
        {
            self.commits.push(batch);
            rest = after;
        }
        rest
    }

    /// Looks for commits behind bytes that are none.
    fn stray(&mut self, mut rest: &[u8]) {
        while let Some(at) = memmem::find(rest, &Encoder::tag(Kind::COMMIT)) {
            rest = rest.get(at..).unwrap_or_default();
            if let Some((index, batch, after)) = self.commit(rest)
                && index >= self.commits.len()
            {
                self.damaged = true;
                self.commits.push(batch);
                rest = after;
            } else {
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }

    /// The commit of this segment that begins here: its index, its changes, and what is behind it.
    fn commit<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Batch, &'a [u8])> {
        let mut head = Decoder::unframed(bytes).ok()?;
        let len = usize::try_from(head.u32().ok()?).ok()?;
        if head.u64() != Ok(self.header.mark()) {
            // Before the checksum, which takes time: there are many in a segment that is used again.
            return None;
        }
        let (commit, rest) = bytes.split_at_checked(FRAME.checked_add(len)?)?;
        let (index, batch) = decode(commit, &self.header.store).ok()?;
        Some((index, batch, rest))
    }
}

fn decode(commit: &[u8], store: &StoreId) -> Result<(usize, Batch), Malformed> {
    let mut commit = Decoder::open_with(Kind::COMMIT, commit, store)?;
    commit.array::<12>()?;
    let index = commit.u32()?;
    let count = commit.count(EACH)?;
    let mut batch = Batch::new();
    for _ in 0..count {
        let key = commit.bytes()?;
        let value = match (commit.u32()?, commit.bytes()?) {
            (0, []) => None,
            (1, value) => Some(value.to_vec()),
            _ => return Err(Malformed("a change")),
        };
        batch.push((key.to_vec(), value));
    }
    commit.end()?;
    let index = usize::try_from(index).map_err(|_| Malformed("an index"))?;
    Ok((index, batch))
}

/// A door for fuzz targets: reads these bytes as a segment, behind a beginning that is right, and as
/// a commit behind a frame that is right. Panics if what it reads is not what would be written for
/// it. Returns whether that commit is one.
#[doc(hidden)]
pub(in crate::store) fn fuzz(bytes: &[u8]) -> bool {
    let header = Header { segment: 3, store: [7; 16], commits_before: 1 };
    let mut commit = Encoder::new(Kind::COMMIT);
    let len = 4 + 8 + bytes.len();
    commit.u32(u32::try_from(len).unwrap_or(u32::MAX)).u64(header.mark()).raw(bytes);
    let commit = commit.seal_with(&header.store);
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
fn same_again(segment: &Segment) {
    let mut again = first_page(segment.header);
    for (index, batch) in (0..).zip(&segment.commits) {
        again.extend(encode(&segment.header, index, batch));
    }
    assert_eq!(again.len(), segment.end, "its end is elsewhere");
    let same = Segment::read(&again).ok().flatten();
    assert_eq!(same.as_ref(), Some(segment), "it reads as another");
}

/// Changes a first page and seals it again, for tests.
#[cfg(test)]
pub(super) fn reseal(page: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(page);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..2]);
    hasher.update(&page[FRAME..HEADER]);
    page[2..FRAME].copy_from_slice(&hasher.finalize().to_be_bytes());
}

#[cfg(test)]
mod tests;
