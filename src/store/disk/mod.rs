//! The one way to the disk: every call that can fail, hang or panic goes through [`Disk::call`].
//!
//! Owns the watch over how long calls take, what a panic becomes, and the faults that tests put in
//! a call's way. What the calls do belongs to their callers.

pub(crate) mod durable_flush;
pub(crate) mod room;

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::store::error::Error;

/// A call may take this long before the store counts as failing; less than a request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// What a call does, for words and for faults.
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
    next: AtomicU64,
    under_way: Mutex<BTreeMap<u64, Instant>>,
    #[cfg(test)]
    faults: Mutex<Vec<(Class, Option<fault::Fault>)>>,
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
            next: AtomicU64::new(0),
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
        let _watched = self.watch();
        let call = || {
            #[cfg(test)]
            self.meet_faults(class)?;
            call().map_err(Into::into)
        };
        let _ = class;
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))))
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

    fn watch(&self) -> Watched<'_> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.under_way().insert(number, Instant::now());
        Watched { disk: self, number }
    }

    /// The calls under way, the oldest first.
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is under way; dropped, it has ended.
struct Watched<'a> {
    disk: &'a Disk,
    number: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.disk.under_way().remove(&self.number);
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Calls that fail, panic or hang, for tests of what the store does then.
#[cfg(test)]
pub(crate) mod fault {
    use super::{AssertUnwindSafe, Class, Disk, Error, PoisonError, io};

    /// What happens to each call of a class.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// It fails with this error number.
        Fails(i32),
        /// It panics.
        Panics,
    }

    impl Disk {
        /// From now on, the next `times` calls of this class meet this fault.
        pub(crate) fn put_in_the_way(&self, class: Class, fault: Fault, times: usize) {
            let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.extend(std::iter::repeat_n((class, Some(fault)), times));
        }

        /// The call of this class that comes after `calls` others meets this fault.
        pub(crate) fn put_in_the_way_after(&self, class: Class, fault: Fault, calls: usize) {
            let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.extend(std::iter::repeat_n((class, None), calls));
            faults.push((class, Some(fault)));
        }

        /// The number of faults that no call has met.
        pub(crate) fn unmet(&self) -> usize {
            let faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.iter().filter(|(_, fault)| fault.is_some()).count()
        }

        /// No call meets a fault any more.
        pub(crate) fn mend(&self) {
            self.0.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }

        pub(super) fn meet_faults(&self, class: Class) -> Result<(), Error> {
            let met = {
                let mut faults = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
                let first = faults.iter().position(|(of, _)| *of == class);
                first.and_then(|index| faults.remove(index).1)
            };
            match met {
                None => Ok(()),
                Some(Fault::Fails(number)) => Err(io::Error::from_raw_os_error(number).into()),
                Some(Fault::Panics) => {
                    std::panic::resume_unwind(Box::new(AssertUnwindSafe("a test").0))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_a_call_that_ended_is_no_complaint() {
        let disk = Disk::with_patience(Duration::ZERO);
        let during = disk.call(Class::Read, || {
            assert!(disk.complaint().is_some_and(|words| words.contains("not answered")));
            Ok::<_, Error>(7)
        });
        assert_eq!(during.unwrap(), 7);
        assert_eq!(disk.complaint(), None);
        let panicked = disk
            .call::<(), Error>(Class::Drop, || std::panic::resume_unwind(Box::new("as sled does")));
        assert!(matches!(panicked, Err(Error::Panicked(words)) if words == "as sled does"));
        assert_eq!(disk.complaint(), None);
    }

    #[test]
    fn the_oldest_call_counts() {
        let disk = Disk::with_patience(Duration::from_secs(3600));
        let first = disk.watch();
        disk.call(Class::Write, || Ok::<_, Error>(())).unwrap();
        assert_eq!(disk.under_way().len(), 1);
        drop(first);
        assert!(disk.under_way().is_empty());
    }
}
