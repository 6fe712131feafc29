//! What makes `flush` of sled 0.34.7 durable.
//!
//! After each write to its log, sled calls the C library's `sync_file_range` and takes its success
//! for durability; but that call syncs neither the file's metadata nor the disk's cache
//! (spacejam/sled issue 1452). So this program defines the function itself and does `fdatasync`.
//! Owns that and the proof that it is in force; nothing else in the program is unsafe.

#![expect(unsafe_code, reason = "a C function is defined and called: see above")]

use std::sync::atomic::{AtomicU64, Ordering};

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
    if fault::is_due(fd) {
        return fault::refuse();
    }
    // SAFETY: fdatasync takes no pointer and leaves memory alone.
    let result = unsafe { libc::fdatasync(fd) };
    if result == 0 {
        SYNCS.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// How often data was synced by this function. A flush of something new must raise it.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Syncs that fail, for tests of what the store does then.
#[cfg(test)]
pub(super) mod fault {
    use std::{
        path::{Path, PathBuf},
        sync::{Mutex, PoisonError},
    };

    static BROKEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    /// From now on, syncs of files in this directory fail with EIO.
    pub(in crate::queue::sled) fn breaks(directory: &Path) {
        BROKEN.lock().unwrap_or_else(PoisonError::into_inner).push(directory.to_owned());
    }

    /// They work again.
    pub(in crate::queue::sled) fn mends(directory: &Path) {
        BROKEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|d| d != directory);
    }

    pub(super) fn is_due(fd: libc::c_int) -> bool {
        let broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        !broken.is_empty()
            && std::fs::read_link(format!("/proc/self/fd/{fd}"))
                .is_ok_and(|file| broken.iter().any(|directory| file.starts_with(directory)))
    }

    pub(super) fn refuse() -> libc::c_int {
        // SAFETY: the location is this thread's own.
        unsafe { *libc::__errno_location() = libc::EIO };
        -1
    }
}
