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
    wire::{Get, Kind, Malformed, Put},
};

/// Written at most this often, and at the end.
const EVERY: Duration = Duration::from_secs(1);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) store: [u8; 16],
    /// The number that the next event gets.
    pub(super) next: u64,
    /// Below this, every handler has settled all.
    pub(super) low: u64,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(Kind::Meta);
        put.raw(&self.store).u64(self.next).u64(self.low);
        put.seal()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Meta, value)?;
        let mark = Self { store: get.array()?, next: get.u64()?, low: get.u64()? };
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
}

impl MarkFile {
    /// Opens it, or makes it.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("high-water");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { file: options.open(&path)?, path, written: None })
    }

    /// Whether the store is the one it was, and as far. `now` is what was found in it.
    pub(super) fn check(&mut self, now: &Mark) -> Result<(), OpenError> {
        let mut bytes = [0; 64];
        let len = self.file.read_at(&mut bytes, 0)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        let accept = format!("removing {} accepts what is there", self.path.display());
        // Nothing but zeros is what a crash during the first writing leaves.
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let before = Mark::decode(bytes).map_err(|error| {
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
        Ok(())
    }

    /// Writes it down if it is new, and time or `must`.
    pub(super) fn write(&mut self, mark: Mark, must: bool) -> io::Result<()> {
        let now = Instant::now();
        if let Some((at, written)) = &self.written
            && (*written == mark || (!must && now.duration_since(*at) < EVERY))
        {
            return Ok(());
        }
        self.file.write_all_at(&mark.encode(), 0)?;
        self.file.sync_data()?;
        self.written = Some((now, mark));
        Ok(())
    }
}
