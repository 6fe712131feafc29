//! A file that the operator keeps: read within a bound and as text, and named for what it is when it
//! is something else.
//!
//! Owns what such files have in common: a byte-order mark is stripped, a device or a pipe is not
//! waited for, and every fault comes with its cure. What the text means is for who asked.

mod foreign;

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::io::Errno;

pub use self::foreign::Foreign;

/// What some editors put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that cannot be read as text, with its path.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.path, .fault))]
pub struct OperatorFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: FileFault,
}

/// Why a file cannot be read as text.
#[derive(Debug)]
pub enum FileFault {
    /// What the system said.
    Io(io::Error),
    /// A pipe or a device: it could be waited for without end, and cannot be read again.
    NotRegular,
    /// A pipe or a device that nothing came from in this time.
    Silent(Duration),
    /// More bytes than this.
    TooLarge(u64),
    /// Another format.
    Foreign(Foreign),
}

fn told(path: &Path, fault: &FileFault) -> String {
    let path = path.display();
    match fault {
        FileFault::Io(error) => format!("cannot read {path}: {error}{}", cure(error)),
        FileFault::NotRegular => {
            format!("cannot read {path}: it is no regular file: name the file itself")
        }
        FileFault::Silent(waited) => format!(
            "cannot read {path}: it is no regular file, and did not come to its end in {} s: name the file itself",
            waited.as_secs()
        ),
        FileFault::TooLarge(most) => {
            format!("{path}: is larger than {} KiB: see that it is the right file", most / 1024)
        }
        FileFault::Foreign(foreign) => format!("{path}: {foreign}"),
    }
}

/// What to do about an error of the system's, as the rest of a sentence.
pub fn cure(error: &io::Error) -> &'static str {
    // Not a fault of this file's: the next one would have it, too.
    let limits = [Errno::MFILE, Errno::NFILE].map(|limit| Some(limit.raw_os_error()));
    if limits.contains(&error.raw_os_error()) {
        return ": raise the limit of open files (LimitNOFILE of the unit, or ulimit -n)";
    }
    CURES
        .iter()
        .find(|(kind, _)| *kind == error.kind())
        .map_or(": see what is wrong with the disk or the path", |(_, cure)| cure)
}

const CURES: [(io::ErrorKind, &str); 4] = [
    (
        io::ErrorKind::NotFound,
        ": put it there, or correct the path (a relative one begins at the configuration file)",
    ),
    (
        io::ErrorKind::PermissionDenied,
        ": let the user who runs brevdue read it (chown or chgrp, then chmod 640), the folders above it too",
    ),
    (io::ErrorKind::IsADirectory, ": name a file in it"),
    (io::ErrorKind::NotADirectory, ": correct the path: something in it is no folder"),
];

/// The text of a regular file of at most `most` bytes, without a byte-order mark.
pub fn read(path: &Path, most: u64) -> Result<String, OperatorFileError> {
    let text = || {
        // The opening waits for no pipe, and the look is at what was opened: another file can take the
        // place of one that was looked at before.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|error| match error.raw_os_error() {
            // A socket.
            Some(libc::ENXIO) => FileFault::NotRegular,
            Some(_) | None => FileFault::Io(error),
        })?;
        let found = file.metadata().map_err(FileFault::Io)?;
        if found.is_dir() {
            return Err(FileFault::Io(io::ErrorKind::IsADirectory.into()));
        }
        if !found.is_file() {
            return Err(FileFault::NotRegular);
        }
        text_of(file, most)
    };
    text().map_err(|fault| OperatorFileError { path: path.to_owned(), fault })
}

/// The same of whatever can be read, a pipe too, if all of it comes within `longest`.
pub fn read_stream(path: &Path, most: u64, longest: Duration) -> Result<String, OperatorFileError> {
    if path.metadata().is_ok_and(|found| found.is_file()) {
        return read(path, most);
    }
    let (done, reading) = mpsc::sync_channel(1);
    let owned = path.to_owned();
    // Opening waits, too: a thread that is left waiting ends with the process.
    thread::spawn(move || {
        let opened = File::open(owned).map_err(FileFault::Io);
        // Nobody is there who wants it after the time.
        drop(done.send(opened.and_then(|file| text_of(file, most))));
    });
    let text = reading.recv_timeout(longest).unwrap_or(Err(FileFault::Silent(longest)));
    text.map_err(|fault| OperatorFileError { path: path.to_owned(), fault })
}

fn text_of(file: impl Read, most: u64) -> Result<String, FileFault> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(FileFault::Io)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > most) {
        return Err(FileFault::TooLarge(most));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    if let Some(foreign) = Foreign::recognized(&bytes) {
        return Err(FileFault::Foreign(foreign));
    }
    String::from_utf8(bytes).map_err(|fault| {
        let at = fault.utf8_error().valid_up_to();
        let line = fault.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        FileFault::Foreign(Foreign::NotUtf8 { line })
    })
}

/// What is wrong with the mode of a file with a secret in it, if it can be seen. Its group may read
/// it: so a service gets files that root keeps.
pub fn open_to_others(path: &Path) -> Option<String> {
    let mode = path.metadata().as_ref().map(Metadata::permissions).ok()?.mode() & 0o7777;
    (mode & 0o027 != 0).then(|| format!("{} has mode {mode:04o}", path.display()))
}

#[cfg(test)]
mod tests;
