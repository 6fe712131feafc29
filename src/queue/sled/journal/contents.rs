//! What a journal holds, judged as a whole, before anything of it is trusted.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::half::{HALF, Half};
use crate::queue::sled::{OpenError, wire::Malformed, writer::Entries};

/// What was read.
#[derive(Debug, Default)]
pub(in crate::queue::sled) struct Contents {
    /// The number of the newer half; 0 in a new journal.
    pub(super) newest: u64,
    /// In their order.
    pub(in crate::queue::sled) commits: Vec<Entries>,
    /// What is wrong, in words.
    pub(in crate::queue::sled) faults: Vec<String>,
    /// Its format is another version's.
    version: Option<Malformed>,
    /// It belongs to another store, or to the same at another time.
    foreign: bool,
}

/// What a database knows of its journal.
#[derive(Debug, Clone, Copy)]
pub(in crate::queue::sled) struct Owner {
    pub(in crate::queue::sled) store: [u8; 16],
    /// A half that it had begun; 0 before there was a journal.
    pub(in crate::queue::sled) noted: u64,
}

impl Contents {
    /// Reads the journal in `directory`. What can be read is told, whatever is wrong beside it.
    pub(in crate::queue::sled) fn read(directory: &Path, owner: Owner) -> io::Result<Self> {
        let mut contents = Self::default();
        let bytes = match File::open(super::path(directory)) {
            Ok(file) => bytes(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if bytes.len() < 2 * HALF {
            // One that is being made is of no use yet.
            if owner.noted > 0 {
                let what = if bytes.is_empty() { "is missing" } else { "is cut short" };
                contents.faults.push(format!("the journal {what}"));
            }
            return Ok(contents);
        }
        let mut halves = Vec::new();
        for (parity, bytes) in (0..).zip(bytes.chunks_exact(HALF)) {
            match Half::read(bytes) {
                Ok(Some(half)) if half.generation % 2 == parity => halves.push(half),
                Ok(Some(_)) => contents.faults.push("the journal's halves are mixed up".into()),
                Ok(None) => {}
                Err(error) => {
                    contents.version = Some(error).filter(|error| *error == Malformed::VERSION);
                    contents
                        .faults
                        .push(format!("the beginning of a half of the journal: {error}"));
                }
            }
        }
        halves.sort_by_key(|half| half.generation);
        contents.judge(&halves, owner);
        contents.commits = halves.into_iter().flat_map(|half| half.commits).collect();
        Ok(contents)
    }

    fn judge(&mut self, halves: &[Half], owner: Owner) {
        let generations: Vec<u64> = halves.iter().map(|half| half.generation).collect();
        self.newest = generations.last().copied().unwrap_or(0);
        let follow = match generations[..] {
            [] => self.newest == 0,
            [only] => only == 1,
            [older, newer, ..] => older + 1 == newer,
        };
        if !follow && self.faults.is_empty() {
            self.faults.push("half of the journal is missing".into());
        }
        if halves.iter().any(|half| half.damaged) {
            self.faults.push("a commit in the journal is damaged".into());
        }
        let fault = if halves.iter().any(|half| half.store != owner.store) {
            Some("the journal is another store's")
        } else if owner.noted > self.newest.saturating_add(super::BOTH)
            || owner.noted.saturating_add(1) < self.newest
        {
            Some("the journal is not of the same time as the database")
        } else {
            None
        };
        self.foreign = fault.is_some();
        self.faults.extend(fault.map(str::to_owned));
    }

    /// Whether the database may have what it holds.
    pub(in crate::queue::sled) fn is_ours(&self) -> bool {
        !self.foreign
    }

    /// What was read, if nothing is wrong with it.
    pub(super) fn whole(self) -> Result<Self, OpenError> {
        match self.version {
            Some(error) => Err(OpenError::damaged("the journal", error)),
            None if self.faults.is_empty() => Ok(self),
            None => Err(OpenError::Damaged(self.faults.join("; "))),
        }
    }
}

/// Not more than a journal has.
fn bytes(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(super::size()).read_to_end(&mut bytes)?;
    Ok(bytes)
}
