//! Why a store cannot be opened, and what to do about it.

use std::{io, path::PathBuf};

use super::wire::Malformed;

/// Why a store could not be opened. Its words name the cure.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is in use.
    #[error("{0} is in use by another process: stop that one first")]
    Locked(PathBuf),
    /// The file system said no.
    #[error("the store's directory: {0}{cure}", cure = cure(.0))]
    Io(#[from] io::Error),
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
}

impl OpenError {
    pub(super) fn damaged(key: &str, error: Malformed) -> Self {
        if error == Malformed::VERSION {
            return Self::Version(format!("{key}: {error}"));
        }
        Self::Damaged(format!("{key}: {error}"))
    }

    /// Its words name a cure that is outside of the store.
    pub(super) fn is_curable(&self) -> bool {
        matches!(self, Self::Io(error) if !cure(error).is_empty())
    }

    /// The disk is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if full(error))
    }
}

impl From<sled::Error> for OpenError {
    fn from(error: sled::Error) -> Self {
        match error {
            // What ends too early in sled's own files is damage.
            sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            sled::Error::Io(error) => Self::Io(error),
            sled::Error::Unsupported(words) if words.contains("version") => Self::Version(words),
            sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
        }
    }
}

/// The error says that the disk, or our share of it, is full.
pub(super) fn full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn cure(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    let is = |errno: Errno| {
        error.raw_os_error() == Some(errno.raw_os_error())
            || error.to_string().contains(&io::Error::from(errno).to_string())
    };
    if full(error) {
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
