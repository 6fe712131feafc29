//! What makes `flush` of sled 0.34.7 durable.
//!
//! After each write to its log, sled calls the C library's `sync_file_range` and takes its success
//! for durability; but that call syncs neither the file's metadata nor the disk's cache
//! (spacejam/sled issue 1452). So this program defines the function itself and does `fdatasync`.
//! Owns that, the proof that it is in force, and the syncs of the write-ahead log; no other code of
//! the program but the allocator's settings is unsafe.

#![expect(unsafe_code, reason = "a C function is defined and called: see above")]

#[cfg(test)]
use std::os::fd::AsRawFd;
use std::{
    fs::File,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use libc::{c_int, c_uint, off64_t};

static SYNCS: AtomicU64 = AtomicU64::new(0);

type SyncFileRange = unsafe extern "C" fn(c_int, off64_t, off64_t, c_uint) -> c_int;

/// Keeps the function in the program whatever the linker thinks of its use.
#[used]
static KEEP: SyncFileRange = sync_file_range;

/// Stands in for the C library's function of this name, in this program only.
///
/// # Safety
/// As for `fdatasync`: any number is a legal argument, and an illegal descriptor is an error.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(fd: c_int, _: off64_t, _: off64_t, _: c_uint) -> c_int {
    #[cfg(test)]
    if let Some(number) = fault::due(fd) {
        return fault::refuse(number);
    }
    // SAFETY: fdatasync takes no pointer and leaves memory alone.
    let result = unsafe { libc::fdatasync(fd) };
    if result == 0 {
        SYNCS.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// Syncs the data of a file of the store; with the faults that tests put in its way.
pub(super) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if let Some(number) = fault::due(file.as_raw_fd()) {
        return Err(io::Error::from_raw_os_error(number));
    }
    file.sync_data()
}

/// The number of syncs that sled asked for and got. A flush of something new must raise it.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Syncs that fail or hang, for tests of what the store does then.
#[cfg(test)]
pub(crate) mod fault {
    use std::{
        path::{Path, PathBuf},
        sync::{Condvar, Mutex, PoisonError},
    };

    enum Fault {
        /// Fails with this number.
        Fails(i32),
        /// Fails with ENOSPC as long as this file is there.
        Full(PathBuf),
        /// Does not return before it is mended.
        Hangs,
    }

    static BROKEN: Mutex<Vec<(PathBuf, Fault)>> = Mutex::new(Vec::new());
    static MENDED: Condvar = Condvar::new();

    fn add(directory: &Path, fault: Fault) {
        let mut broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        broken.push((directory.to_owned(), fault));
    }

    /// From now on, syncs of files in this directory fail with EIO.
    pub(crate) fn breaks(directory: &Path) {
        add(directory, Fault::Fails(libc::EIO));
    }

    /// From now on, syncs of files in this directory fail for want of room, until `file` is gone.
    pub(crate) fn fills(directory: &Path, file: &Path) {
        add(directory, Fault::Full(file.to_owned()));
    }

    /// From now on, syncs of files in this directory do not return.
    pub(crate) fn hangs(directory: &Path) {
        add(directory, Fault::Hangs);
    }

    /// They work again.
    pub(crate) fn mends(directory: &Path) {
        BROKEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|(d, _)| d != directory);
        MENDED.notify_all();
    }

    /// The error that this sync is to fail with.
    pub(super) fn due(fd: libc::c_int) -> Option<i32> {
        let mut broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_empty() {
            return None;
        }
        let file = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        loop {
            let (_, fault) = broken.iter().find(|(directory, _)| file.starts_with(directory))?;
            match fault {
                Fault::Fails(number) => return Some(*number),
                Fault::Full(ballast) => return ballast.exists().then_some(libc::ENOSPC),
                Fault::Hangs => {
                    broken = MENDED.wait(broken).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    pub(super) fn refuse(number: i32) -> libc::c_int {
        // SAFETY: the location is this thread's own.
        unsafe { *libc::__errno_location() = number };
        -1
    }
}
