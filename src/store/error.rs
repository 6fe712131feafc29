//! Why the store did not do it, and what to do about it.

use std::{io, path::Path, path::PathBuf};

use super::codec::Malformed;

/// Why a call to the store failed. Its words name the cure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("{0} is in use by another process: stop that one first")]
    Locked(PathBuf),
    /// The file system said no. Reopening can heal it.
    #[error("the store: {0}{cure}", cure = cure(.0))]
    Io(io::Error),
    /// What is on disk cannot be trusted.
    #[error(
        "the store is damaged: {0}. `brevdue verify` says what is whole; \
         `brevdue verify --repair` goes on with that and keeps the rest aside"
    )]
    Damaged(String),
    /// Another version wrote it.
    #[error(
        "the store was written in another format ({0}): start the version of brevdue that wrote it"
    )]
    Version(String),
    /// sled does not come back.
    #[error(
        "the database did not open within {0} seconds; look at the disk's health, then start again, \
         or see what `brevdue verify` says"
    )]
    Stuck(u64),
    /// A flush did not sync: this build would lose events.
    #[error("a flush of the database did not sync its file; this build must not be used")]
    NotDurable,
    /// sled panicked.
    #[error("sled panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// The entry or file of this name is malformed.
    pub(crate) fn malformed(name: &str, error: Malformed) -> Self {
        if error == Malformed::VERSION {
            return Self::Version(format!("{name}: {error}"));
        }
        Self::Damaged(format!("{name}: {error}"))
    }

    /// The file system said no to this path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Anything else that goes wrong outside of the store's files.
    pub(crate) fn other(words: impl Into<String>) -> Self {
        Self::Io(io::Error::other(words.into()))
    }

    /// Whether its words name a cure that is outside of the store.
    pub(crate) fn is_curable(&self) -> bool {
        matches!(self, Self::Io(error) if !cure(error).is_empty())
    }

    /// Whether the disk, or our share of it, is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if is_full(error))
    }

    /// Whether the file system cannot do this at all.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::Unsupported)
    }
}

impl From<io::Error> for Error {
    /// Not as a source: its words are in ours.
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for Error {
    fn from(error: sled::Error) -> Self {
        match error {
            // What ends too early in sled's own files is damage.
            sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            sled::Error::Io(error) => Self::Io(as_the_system_says(error)),
            sled::Error::Unsupported(words) if words.contains("version") => Self::Version(words),
            sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
        }
    }
}

/// sled tells an error again by its debug form, which has the system's number. What it says of its
/// lock is its own.
fn as_the_system_says(error: io::Error) -> io::Error {
    let words = error.to_string();
    if words.contains("acquire lock") {
        return error;
    }
    let number = words.split_once("Os { code: ").and_then(|(_, rest)| rest.split(',').next());
    let number = number.and_then(|number| number.parse().ok());
    number.map_or(error, io::Error::from_raw_os_error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn cure(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    // sled hands errors on as text.
    let is = |errno: Errno| {
        error.raw_os_error() == Some(errno.raw_os_error())
            || error.to_string().contains(&io::Error::from(errno).to_string())
    };
    if is_full(error) || is(Errno::NOSPC) {
        "; make room on the disk"
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        "; mount the disk for writing (the kernel may have turned it read-only after a fault: see dmesg)"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; give the user that runs brevdue data_dir to own"
    } else if is(Errno::MFILE) || is(Errno::NFILE) {
        "; raise the limit of open files (LimitNOFILE of the unit, or ulimit -n)"
    } else if is(Errno::IO) {
        "; the disk itself fails: see dmesg"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_sled_tells_again_has_the_words_of_the_system() {
        let first = sled::Error::Io(io::Error::from_raw_os_error(28));
        for error in [first.clone(), first.clone().clone(), first] {
            let error = Error::from(error);
            assert!(error.is_full(), "{error}");
            let words = "the store: No space left on device (os error 28); make room on the disk";
            assert_eq!(error.to_string(), words);
        }
        let words = "could not acquire lock on db: Os { code: 11, kind: WouldBlock }";
        let lock = sled::Error::Io(io::Error::other(words));
        assert!(
            Error::from(lock).to_string().contains("acquire lock"),
            "who opens tries again then"
        );
    }
}
