//! What a write-ahead log holds, judged as a whole, before anything of it is trusted.

use std::{
    cmp::Ordering,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::segment::{SEGMENT, SIZE, SIZE_U64, Segment};
use crate::store::{
    batch::Batch,
    codec::Malformed,
    error::Error,
    trees::{Position, StoreId},
};

/// What was read.
#[derive(Debug, Default)]
pub(in crate::store) struct Recovered {
    /// The commits that sled may not have, in their order; none if the log does not belong to it.
    pub(in crate::store) commits: Vec<Batch>,
    /// Where the next commit goes.
    pub(super) end: Position,
    /// The same in bytes, from the beginning of the segment.
    pub(super) at: usize,
    /// What is wrong, in words.
    pub(in crate::store) faults: Vec<String>,
}

impl Recovered {
    /// Reads the log at `path` of a store whose trees have it up to the checkpoint. What can be read
    /// is told, whatever is wrong beside it, unless another version wrote it.
    pub(in crate::store) fn read(
        path: &Path,
        store: StoreId,
        checkpoint: Position,
    ) -> Result<Self, Error> {
        let bytes = match File::open(path) {
            Ok(file) => bytes(file).map_err(Error::at(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::at(path)(error)),
        };
        Self::judge(&bytes, store, checkpoint)
    }

    fn judge(bytes: &[u8], store: StoreId, checkpoint: Position) -> Result<Self, Error> {
        let mut recovered = Self::default();
        if bytes.len() < SIZE {
            // One that is being made is of no use yet.
            if checkpoint != Position::default() {
                let what = if bytes.is_empty() { "is missing" } else { "is cut short" };
                recovered.faults.push(format!("the write-ahead log {what}"));
            }
            return Ok(recovered);
        }
        let mut segments = Vec::new();
        for (half, bytes) in (0..).zip(bytes.chunks_exact(SEGMENT)) {
            match Segment::read(bytes) {
                Ok(Some(segment)) if segment.header.segment % 2 == half => segments.push(segment),
                Ok(Some(_)) => recovered.fault("its segments are mixed up"),
                Ok(None) => {}
                Err(error) if error == Malformed::VERSION => {
                    return Err(Error::malformed("the write-ahead log", error));
                }
                Err(error) => recovered.fault(&format!("the beginning of a segment: {error}")),
            }
        }
        segments.sort_by_key(|segment| segment.header.segment);
        recovered.follow(&segments);
        if let Some(fault) = foreign(&segments, store, checkpoint) {
            recovered.fault(fault);
        } else {
            recovered.take(segments, checkpoint);
        }
        Ok(recovered)
    }

    fn fault(&mut self, words: &str) {
        self.faults.push(format!("the write-ahead log: {words}"));
    }

    /// One segment comes after the other, and each is as long as the next one says.
    fn follow(&mut self, segments: &[Segment]) {
        let (follow, is_short) = match segments {
            [] => (true, false),
            [only] => (only.header.segment == 1, false),
            [older, newer, ..] => (
                older.header.segment + 1 == newer.header.segment,
                usize::try_from(newer.header.commits_before) != Ok(older.commits.len()),
            ),
        };
        if !follow && self.faults.is_empty() {
            self.fault("a segment is missing");
        }
        if segments.iter().any(|segment| segment.damaged) || (follow && is_short) {
            self.fault("a commit is damaged");
        }
    }

    /// The commits from the checkpoint on.
    fn take(&mut self, segments: Vec<Segment>, checkpoint: Position) {
        for Segment { header, commits, end, .. } in segments {
            let count = u32::try_from(commits.len()).unwrap_or(u32::MAX);
            (self.end, self.at) = (Position { segment: header.segment, commits: count }, end);
            let known = match header.segment.cmp(&checkpoint.segment) {
                Ordering::Less => commits.len(),
                Ordering::Equal => usize::try_from(checkpoint.commits).unwrap_or(0),
                Ordering::Greater => 0,
            };
            self.commits.extend(commits.into_iter().skip(known));
        }
    }
}

/// Why a log is not this store's, or does not go on where sled's checkpoint is.
fn foreign(segments: &[Segment], store: StoreId, checkpoint: Position) -> Option<&'static str> {
    let newest = segments.last().map_or(0, |newest| newest.header.segment);
    let is_short = segments.iter().any(|of| {
        of.header.segment == checkpoint.segment
            && usize::try_from(checkpoint.commits).is_ok_and(|commits| commits > of.commits.len())
    });
    if segments.iter().any(|of| of.header.store != store) {
        Some("it is another store's")
    } else if newest < checkpoint.segment || newest > checkpoint.segment.saturating_add(1) {
        Some("it is not of the same time as the database")
    } else if is_short {
        Some("its last commits are missing")
    } else {
        None
    }
}

/// Not more than a log has.
fn bytes(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SIZE);
    file.take(SIZE_U64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
