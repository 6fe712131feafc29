//! The high-water file beside the database: which store it is, and how far it was.
//!
//! sled can open empty, or an older copy, without an error. This file lets that be noticed. It is
//! written after what it speaks of is synced, so it never claims more than the store holds.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    OpenError,
    database::Db,
    entry::{decode_number, encode_number},
    keys,
    load::Loaded,
    wire::{Get, Kind, Malformed, Put},
    writer::{Broken, Writer},
};

/// Written at most this often, and at the end.
const EVERY: Duration = Duration::from_secs(1);

/// Where it is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("high-water")
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) store: [u8; 16],
    /// The number that the next event gets.
    pub(super) next: u64,
    /// Below this, every handler has settled all.
    pub(super) low: u64,
    /// A count that the store holds, too, and that is raised in it before this is written.
    pub(super) count: u64,
}

impl Mark {
    /// What a store says that was just read.
    pub(super) fn of(loaded: &Loaded, db: &Db) -> Result<Self, OpenError> {
        // Opening it raised the count by one.
        let count = count(db).map_err(|Broken(why)| OpenError::Damaged(why))?.saturating_sub(1);
        Ok(Self { store: loaded.identity.store, next: loaded.next, low: 0, count })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(Kind::Meta);
        put.raw(&self.store).u64(self.next).u64(self.low).u64(self.count);
        put.seal()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Meta, value)?;
        let (store, next, low) = (get.array()?, get.u64()?, get.u64()?);
        // The first stores had none.
        let count = if get.is_empty() { 0 } else { get.u64()? };
        let mark = Self { store, next, low, count };
        get.end()?;
        Ok(mark)
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct MarkFile {
    path: PathBuf,
    file: File,
    written: Option<(Instant, Mark)>,
    /// Something was written to the store since this was.
    pub(super) unnoted: bool,
}

impl MarkFile {
    /// Opens it, or makes it.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = path(directory);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { file: options.open(&path)?, path, written: None, unnoted: true })
    }

    /// What it says; None if it is empty.
    pub(super) fn read(&self) -> io::Result<Option<Result<Mark, Malformed>>> {
        let mut bytes = [0; 64];
        let len = self.file.read_at(&mut bytes, 0)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        // Nothing but zeros is what a crash during the first writing leaves.
        let empty = bytes.iter().all(|byte| *byte == 0);
        Ok((!empty).then(|| Mark::decode(bytes)))
    }

    /// Whether the store is the one it was, and as far. `now` is what was found in it.
    pub(super) fn check(&mut self, now: &Mark) -> Result<(), OpenError> {
        let accept = format!("removing {} accepts what is there", self.path.display());
        let Some(before) = self.read()? else { return Ok(()) };
        let before = before.map_err(|error| {
            OpenError::damaged(&format!("the high-water file ({accept})"), error)
        })?;
        if before.store != now.store {
            let lost = before.next.saturating_sub(before.low);
            return Err(OpenError::Damaged(format!(
                "it is another store than the one before, which had events up to {}, \
                 at least {lost} of them undelivered; {accept}",
                before.next
            )));
        }
        if before.next > now.next {
            return Err(OpenError::Damaged(format!(
                "events {} to {} are missing; {accept}",
                now.next, before.next
            )));
        }
        if before.count > now.count {
            return Err(OpenError::Damaged(format!(
                "its last changes are missing: deliveries that were settled, retries and dead \
                 letters may be as they were earlier; {accept}"
            )));
        }
        Ok(())
    }

    /// As if it had never been written.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.written = None;
        self.file.set_len(0)
    }

    /// Whether it is time, and there is something new.
    fn is_due(&self, mark: &Mark, must: bool) -> bool {
        self.written.as_ref().is_none_or(|(at, written)| {
            let new = self.unnoted || (written.next, written.low) != (mark.next, mark.low);
            new && (must || at.elapsed() >= EVERY)
        })
    }

    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&mark.encode(), 0)?;
        self.file.sync_data()?;
        self.written = Some((Instant::now(), mark));
        Ok(())
    }
}

impl Writer {
    /// How far the store is, outside of it: at most once a second, or if it must be.
    pub(super) fn note(&mut self, must: bool) -> Result<(), Broken> {
        let mut mark = {
            let state = self.shared.state();
            Mark { store: self.store, next: state.next, low: state.settled_by_all(), count: 0 }
        };
        if !self.mark.is_due(&mark, must) {
            return Ok(());
        }
        mark.count = count(self.db()?)?.saturating_add(1);
        self.commit(vec![(keys::STARTED.to_vec(), Some(encode_number(mark.count)))])?;
        self.mark.unnoted = false;
        let written = self.mark.write(mark);
        written.map_err(|error| Broken(format!("the high-water file: {error}")))
    }
}

/// Raised at each start and each note.
fn count(db: &Db) -> Result<u64, Broken> {
    let number = db.get(keys::STARTED)?.map_or(Ok(0), |value| decode_number(&value));
    number.map_err(|error| Broken(error.to_string()))
}
