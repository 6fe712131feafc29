//! What a write-ahead log holds, judged as a whole, before anything of it is trusted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use rustix::fs::{Advice, fadvise};

use super::segment::{SEGMENT, Segment};
use crate::store::{
    batch::Batch,
    codec::Malformed,
    durable_flush,
    error::Error,
    trees::{Position, StoreId},
};

/// What was read.
#[derive(Debug, Default)]
pub(in crate::store) struct Recovered {
    /// The commits that sled may not have, in their order.
    pub(in crate::store) commits: Vec<Batch>,
    /// Where the next commit goes.
    pub(super) end: Position,
    /// The same in bytes, from the beginning of the segment.
    pub(super) at: usize,
    /// What is wrong, in words.
    pub(in crate::store) faults: Vec<String>,
    /// It is written in another version's format.
    version: Option<Malformed>,
    /// It belongs to another store, or to the same one at another time.
    foreign: bool,
}

/// What sled knows of its write-ahead log.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Owner {
    pub(in crate::store) store: StoreId,
    /// Up to here sled has it.
    pub(in crate::store) checkpoint: Position,
}

impl Recovered {
    /// Reads the log at `path`. What can be read is told, whatever is wrong beside it.
    pub(in crate::store) fn read(path: &Path, owner: Owner) -> Result<Self, Error> {
        let bytes = match File::open(path) {
            Ok(file) => bytes(file).map_err(Error::at(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::at(path)(error)),
        };
        Ok(Self::judge(&bytes, owner))
    }

    fn judge(bytes: &[u8], owner: Owner) -> Self {
        let mut recovered = Self::default();
        if bytes.len() < super::SIZE {
            // One that is being made is of no use yet.
            if owner.checkpoint != Position::default() {
                let what = if bytes.is_empty() { "is missing" } else { "is cut short" };
                recovered.faults.push(format!("the write-ahead log {what}"));
            }
            return recovered;
        }
        let mut segments = Vec::new();
        for (half, bytes) in (0..).zip(bytes.chunks_exact(SEGMENT)) {
            match Segment::read(bytes) {
                Ok(Some(segment)) if segment.header.segment % 2 == half => segments.push(segment),
                Ok(Some(_)) => recovered.fault("its segments are mixed up"),
                Ok(None) => {}
                Err(error) => {
                    recovered.version =
                        recovered.version.or(Some(error).filter(|e| *e == Malformed::VERSION));
                    recovered.fault(&format!("the beginning of a segment: {error}"));
                }
            }
        }
        segments.sort_by_key(|segment| segment.header.segment);
        recovered.follow(&segments);
        recovered.belong(&segments, owner);
        recovered.take(segments, owner.checkpoint);
        recovered
    }

    fn fault(&mut self, words: &str) {
        self.faults.push(format!("the write-ahead log: {words}"));
    }

    /// One segment comes after the other, and each is as long as the next one says.
    fn follow(&mut self, segments: &[Segment]) {
        let follow = match segments {
            [] => true,
            [only] => only.header.segment == 1,
            [older, newer, ..] => older.header.segment + 1 == newer.header.segment,
        };
        if !follow && self.faults.is_empty() {
            self.fault("a segment is missing");
        }
        let short = |pair: &[Segment]| {
            let [older, newer] = pair else { return false };
            usize::try_from(newer.header.commits_before) != Ok(older.commits.len())
        };
        if segments.iter().any(|segment| segment.damaged)
            || (follow && segments.windows(2).any(short))
        {
            self.fault("a commit is damaged");
        }
    }

    /// It is this store's, and goes on where sled's checkpoint is.
    fn belong(&mut self, segments: &[Segment], owner: Owner) {
        let Position { segment, commits } = owner.checkpoint;
        let newest = segments.last().map_or(0, |newest| newest.header.segment);
        let reaches = segments
            .iter()
            .find(|of| of.header.segment == segment)
            .map(|of| usize::try_from(commits).is_ok_and(|commits| commits <= of.commits.len()));
        let fault = if segments.iter().any(|of| of.header.store != owner.store) {
            Some("it is another store's")
        } else if newest < segment || newest > segment.saturating_add(1) {
            Some("it is not of the same time as the database")
        } else if reaches == Some(false) {
            Some("its last commits are missing")
        } else {
            None
        };
        self.foreign = fault.is_some();
        if let Some(fault) = fault {
            self.fault(fault);
        }
    }

    /// The commits from the checkpoint on.
    fn take(&mut self, segments: Vec<Segment>, checkpoint: Position) {
        for Segment { header, commits, end, .. } in segments {
            let count = u32::try_from(commits.len()).unwrap_or(u32::MAX);
            (self.end, self.at) = (Position { segment: header.segment, commits: count }, end);
            let known = match header.segment.cmp(&checkpoint.segment) {
                std::cmp::Ordering::Less => commits.len(),
                std::cmp::Ordering::Equal => usize::try_from(checkpoint.commits).unwrap_or(0),
                std::cmp::Ordering::Greater => 0,
            };
            self.commits.extend(commits.into_iter().skip(known));
        }
    }

    /// Whether sled may have what it holds.
    pub(in crate::store) fn is_ours(&self) -> bool {
        !self.foreign
    }

    /// What was read, if nothing is wrong with it.
    pub(super) fn whole(self) -> Result<Self, Error> {
        match self.version {
            Some(error) => Err(Error::malformed("the write-ahead log", error)),
            None if self.faults.is_empty() => Ok(self),
            None => Err(Error::Damaged(self.faults.join("; "))),
        }
    }
}

/// Not more than a log has.
fn bytes(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(super::SIZE);
    file.take(super::SIZE_U64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Has the system forget what it keeps of a file in memory, so that reading it reads the disk.
///
/// After a sync that failed, Linux may count pages as written that are on no disk. What is read then
/// must be what a power loss would leave, or it could be trusted now and be gone later.
pub(in crate::store) fn forget_cached(path: &Path) -> io::Result<()> {
    // For writing, too: pages that are still dirty cannot be forgotten, and this writes them.
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    durable_flush::trust(&file)
}
