//! Syncs that fail or hang, for tests of what the store does then.

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
