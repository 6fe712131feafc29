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
//! Owns that, the proof that it is in force, and the syncs of the write-ahead log; no other code of
//! the program but the allocator's settings is unsafe.

#![expect(unsafe_code, reason = "C functions are defined and called: see above")]

use std::{
    fs::File,
    io,
    mem::{MaybeUninit, transmute},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use libc::{c_int, c_uint, off64_t};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Files that a sync failed of, by device and inode, and whether there are any.
static FAILED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());
static ANY_FAILED: AtomicBool = AtomicBool::new(false);

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
    if result == 0 && has_failed(fd) {
        return refuse(libc::EIO);
    }
    if result == 0 {
        SYNCS.fetch_add(1, Ordering::Relaxed);
    }
    result
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
    let due = fault::due(fd);
    #[cfg(not(test))]
    let due = None;
    let _one = SYNCING.lock().unwrap_or_else(PoisonError::into_inner);
    let result = due.map_or_else(|| sync(fd), refuse);
    if result == 0 {
        return 0;
    }
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    if let Some(file) = identity(fd) {
        let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed.contains(&file) {
            failed.push(file);
        }
        ANY_FAILED.store(true, Ordering::Release);
    }
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

/// A sync of this file failed: what it was for may be on no disk.
fn has_failed(fd: c_int) -> bool {
    ANY_FAILED.load(Ordering::Acquire)
        && identity(fd).is_some_and(|file| {
            FAILED.lock().unwrap_or_else(PoisonError::into_inner).contains(&file)
        })
}

/// Whether a sync of the file at this path failed since it was last read from the disk.
pub(in crate::store) fn is_suspect(path: &Path) -> bool {
    ANY_FAILED.load(Ordering::Acquire)
        && File::open(path).is_ok_and(|file| has_failed(file.as_raw_fd()))
}

/// What is read of this file from now on is what the disk has.
pub(in crate::store) fn trust(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    failed.retain(|of| *of != (metadata.dev(), metadata.ino()));
    ANY_FAILED.store(!failed.is_empty(), Ordering::Release);
    Ok(())
}

fn refuse(number: c_int) -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = number };
    -1
}

/// Syncs the data of a file of the store; with the faults that tests put in its way.
pub(in crate::store) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if let Some(number) = fault::due(file.as_raw_fd()) {
        return Err(io::Error::from_raw_os_error(number));
    }
    file.sync_data()
}

/// The number of syncs that sled asked for and got. A flush of something new must raise it.
pub(in crate::store) fn syncs() -> u64 {
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
    pub(in crate::store) fn due(fd: libc::c_int) -> Option<i32> {
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
}
