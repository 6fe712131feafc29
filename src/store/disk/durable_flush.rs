//! What makes `flush` of sled 0.34.7 durable.
//!
//! After each write to its log, sled calls the C library's `sync_file_range` and takes its success
//! for durability; but that call syncs neither the file's metadata nor the disk's cache
//! (spacejam/sled issue 1452). So this program defines the function itself and does `fdatasync`.
//!
//! Linux tells a failed sync of a file once, and counts the pages as written then: the next sync
//! succeeds, without them. sled writes and syncs on several threads, one of which only logs an error
//! of its `fsync`. So this program defines `fsync`, too, and remembers whose sync failed: no later
//! one succeeds until the file was read from the disk again.
//!
//! Owns that, the proof that it is in force, the syncs of the store's other files, and that a file is
//! read from the disk; no other code of the program but the allocator's settings is unsafe.

#![expect(unsafe_code, reason = "C functions are defined and called: see above")]

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    mem::{MaybeUninit, transmute},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use libc::{c_int, c_uint, off64_t};
use rustix::fs::{Advice, fadvise};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Files that a sync failed of, by device and inode.
static FAILED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

type SyncFileRange = unsafe extern "C" fn(c_int, off64_t, off64_t, c_uint) -> c_int;
type Fsync = unsafe extern "C" fn(c_int) -> c_int;

/// Keeps the functions in the program whatever the linker thinks of their use.
#[used]
static KEEP: (SyncFileRange, Fsync) = (sync_file_range, fsync);

/// One sync at a time: a sync that follows a failed one must know of it.
static SYNCING: Mutex<()> = Mutex::new(());

/// Stands in for the C library's function of this name, in this program only.
///
/// # Safety
/// As for `fdatasync`: any number is a legal argument, and an illegal descriptor is an error.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(fd: c_int, _: off64_t, _: off64_t, _: c_uint) -> c_int {
    let result = sync_and_remember(fd, |fd| {
        // SAFETY: fdatasync takes no pointer and leaves memory alone.
        unsafe { libc::fdatasync(fd) }
    });
    if result != 0 {
        return result;
    }
    if identity(fd).is_some_and(|file| failed().contains(&file)) {
        // What that sync was for may be on no disk.
        return refuse(libc::EIO);
    }
    SYNCS.fetch_add(1, Ordering::Relaxed);
    0
}

/// Stands in for the C library's function of this name, in this program only, and calls that.
///
/// # Safety
/// As for the C library's: any number is a legal argument.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_and_remember(fd, real_fsync)
}

/// Syncs a file, and remembers if that failed.
fn sync_and_remember(fd: c_int, sync: impl FnOnce(c_int) -> c_int) -> c_int {
    #[cfg(test)]
    let due = tests::due(fd);
    #[cfg(not(test))]
    let due = None;
    let _one = SYNCING.lock().unwrap_or_else(PoisonError::into_inner);
    if due.map_or_else(|| sync(fd), refuse) == 0 {
        return 0;
    }
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    failed().extend(identity(fd));
    refuse(number)
}

/// The C library's `fsync`, or what stands between it and this program.
fn real_fsync(fd: c_int) -> c_int {
    static NEXT: OnceLock<Option<Fsync>> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        // SAFETY: the name is a C string; the symbol, if there is one, is a function of this type.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_NEXT, c"fsync".as_ptr());
            (!symbol.is_null()).then(|| transmute::<*mut libc::c_void, Fsync>(symbol))
        }
    });
    match next {
        // SAFETY: fsync takes no pointer and leaves memory alone.
        Some(fsync) => unsafe { fsync(fd) },
        // SAFETY: the same, where the program is linked statically.
        None => unsafe { c_int::try_from(libc::syscall(libc::SYS_fsync, fd)).unwrap_or(-1) },
    }
}

/// Device and inode of an open file.
fn identity(fd: c_int) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the struct that it is given, if it succeeds.
    let stat = unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }?;
    Some((stat.st_dev, stat.st_ino))
}

fn failed() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(number: c_int) -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = number };
    -1
}

/// Whether a sync of this file failed, and it was not opened anew since.
pub(in crate::store) fn has_failed(path: &Path) -> bool {
    let identity = fs::metadata(path).map(|file| (file.dev(), file.ino()));
    identity.is_ok_and(|file| failed().contains(&file))
}

/// Opens a file, or makes it. What is read of it is what the disk has, if a sync of it failed in this
/// process or `distrusted` is true: then the system is to forget what it keeps of it in memory.
///
/// After a sync that failed, Linux may count pages as written that are on no disk. What is read then
/// must be what a power loss would leave, or it could be trusted now and be gone later. A file is made
/// here because it can have the inode of a removed one that a sync failed of.
pub(in crate::store) fn open(path: &Path, distrusted: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    let failed_before = identity(file.as_raw_fd()).is_some_and(|file| failed().remove(&file));
    if distrusted || failed_before {
        // Pages that are still dirty cannot be forgotten: the sync writes them.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(file)
}

/// Syncs the data of a file of the store; with the faults that tests put in its way.
pub(in crate::store) fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if let Some(number) = tests::due(file.as_raw_fd()) {
        return Err(io::Error::from_raw_os_error(number));
    }
    file.sync_data()
}

/// Syncs a file, or the names in a directory.
pub(in crate::store) fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The number of syncs that sled asked for and got. A flush of something new must raise it.
pub(in crate::store) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}
