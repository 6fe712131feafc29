//! The one way to the disk: every call that can fail, hang or panic goes through [`Disk::call`].
//!
//! Owns the watch over how long calls take, and what a panic becomes. What the calls do belongs to
//! their callers.

pub(crate) mod durable_flush;
pub(crate) mod room;

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

#[cfg(test)]
pub(crate) use self::tests::fault;
use crate::store::error::Error;

/// A call may take this long before the store counts as failing; less than a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a call does, for the faults that tests put in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Opens or makes the store's files.
    Open,
    /// Reads an entry.
    Read,
    /// Writes or syncs a commit, or another small file.
    Write,
    /// Gives sled what was committed.
    Checkpoint,
    /// Closes sled.
    Drop,
    /// Looks after room: free space, the ballast, a compaction.
    Room,
}

/// The disk as the store sees it. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    patience: Duration,
    /// When each call under way began, the oldest first.
    under_way: Mutex<BTreeMap<u64, Instant>>,
    #[cfg(test)]
    faults: Mutex<fault::Faults>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl Disk {
    /// A disk whose calls may take this long.
    pub(crate) fn with_patience(patience: Duration) -> Self {
        Self(Arc::new(Inner {
            patience,
            under_way: Mutex::default(),
            #[cfg(test)]
            faults: Mutex::default(),
        }))
    }

    /// How long a call may take.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Makes a call: watched, and a panic in it becomes an error.
    pub(crate) fn call<T, E: Into<Error>>(
        &self,
        class: Class,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Error> {
        let number = self.begin();
        let made = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            self.meet_faults(class)?;
            call().map_err(Into::into)
        }));
        let _ = class;
        self.under_way().remove(&number);
        made.unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))))
    }

    /// A file operation on this path; its error names the path.
    pub(crate) fn file<T>(
        &self,
        class: Class,
        path: &Path,
        call: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, Error> {
        self.call(class, || call().map_err(Error::at(path)))
    }

    /// What is wrong, if a call takes too long.
    pub(crate) fn complaint(&self) -> Option<String> {
        let began = *self.under_way().values().next()?;
        let taken = began.elapsed();
        (taken >= self.0.patience).then(|| format!("the disk has not answered for {taken:.0?}"))
    }

    /// Notes that a call begins; its number is larger than those of the calls under way.
    fn begin(&self) -> u64 {
        let mut under_way = self.under_way();
        let number = under_way.last_key_value().map_or(0, |(last, _)| last + 1);
        under_way.insert(number, Instant::now());
        number
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
