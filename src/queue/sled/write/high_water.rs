//! The high-water file beside the store: which store it is, and how far it was.
//!
//! A store can be gone, or an older copy, without an error. This file lets that be noticed. It is
//! written after what it speaks of is durable, so it never claims more than the store holds.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    clock::Timestamp,
    queue::sled::codec::{META, Value},
    store::{
        Class, Disk, Error, StoreId,
        codec::{self, Kind, Malformed},
    },
};

/// Written at most this often, and at the end.
const EVERY: Duration = Duration::from_secs(1);

/// And this often if nothing is new: a start compares its time with the clock.
const HOURLY: Duration = Duration::from_secs(3600);

/// Where it is.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join("high-water")
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HighWater {
    pub(crate) store: StoreId,
    /// The number that the next event gets.
    pub(crate) next: u64,
    /// Below this, every handler has settled all.
    pub(crate) low: u64,
    /// A count that the store holds, too, and that is raised in it before this is written.
    pub(crate) count: u64,
    /// When it was written.
    pub(crate) at: Timestamp,
}

impl Value for HighWater {
    const KIND: Kind = META;
}

/// What the file in this directory says; `None` if it is empty or missing.
pub(crate) fn read(directory: &Path) -> Result<Option<Result<HighWater, Malformed>>, Error> {
    let path = path(directory);
    match File::open(&path) {
        Ok(file) => decode(&file).map_err(Error::at(&path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::at(&path)(error)),
    }
}

fn decode(file: &File) -> io::Result<Option<Result<HighWater, Malformed>>> {
    let mut bytes = [0; 80];
    let len = file.read_at(&mut bytes, 0)?;
    let bytes = bytes.get(..len).unwrap_or_default();
    // Nothing but zeros is what a crash during the first writing leaves.
    let empty = bytes.iter().all(|byte| *byte == 0);
    // Behind the value stands the end of a longer one, if there was one.
    let value = codec::split(bytes).map_or(bytes, |(value, _)| value);
    Ok((!empty).then(|| HighWater::decode(value)))
}

/// The file.
#[derive(Debug)]
pub(crate) struct HighWaterFile {
    path: PathBuf,
    file: File,
    disk: Disk,
    written: Option<(Instant, HighWater)>,
    /// Something was written to the store since this was.
    pub(crate) unnoted: bool,
}

impl HighWaterFile {
    /// Opens it, or makes it.
    pub(crate) fn open(directory: &Path, disk: &Disk) -> Result<Self, Error> {
        let path = path(directory);
        let file = disk.file(Class::Open, &path, || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(&path)
        })?;
        Ok(Self { path, file, disk: disk.clone(), written: None, unnoted: true })
    }

    /// Whether the store is the one it was, and as far: `now` is what was found in it. When the file
    /// was written, if another process did that: what this one wrote says nothing about the clock,
    /// since a store that is idle does not write it.
    pub(crate) fn check(&self, now: &HighWater) -> Result<Option<Timestamp>, Error> {
        let accept = format!("removing {} accepts what is there", self.path.display());
        let read = self.disk.file(Class::Open, &self.path, || decode(&self.file))?;
        let Some(before) = read else { return Ok(None) };
        let before = before
            .map_err(|error| Error::malformed(&format!("the high-water file ({accept})"), error))?;
        if before.store != now.store {
            let lost = before.next.saturating_sub(before.low);
            return Err(Error::Damaged(format!(
                "it is another store than the one before, which had events up to {}, \
                 at least {lost} of them undelivered; {accept}",
                before.next
            )));
        }
        if before.next > now.next {
            return Err(Error::Damaged(format!(
                "events {} to {} are missing; {accept}",
                now.next, before.next
            )));
        }
        if before.count > now.count {
            return Err(Error::Damaged(format!(
                "its last changes are missing: deliveries that were settled, retries and dead \
                 letters may be as they were earlier; {accept}"
            )));
        }
        Ok(self.written.is_none().then_some(before.at))
    }

    /// Whether it is time: there is something new, or its time has become old.
    pub(crate) fn is_due(&self, next: u64, low: u64, must: bool) -> bool {
        self.written.as_ref().is_none_or(|(at, written)| {
            let new = self.unnoted || (written.next, written.low) != (next, low);
            must || (new && at.elapsed() >= EVERY) || at.elapsed() >= HOURLY
        })
    }

    /// Writes and syncs it.
    pub(crate) fn write(&mut self, mark: HighWater) -> Result<(), Error> {
        self.disk.file(Class::Write, &self.path, || {
            self.file.write_all_at(&mark.encode(), 0)?;
            self.file.sync_data()
        })?;
        self.unnoted = false;
        self.written = Some((Instant::now(), mark));
        Ok(())
    }
}
