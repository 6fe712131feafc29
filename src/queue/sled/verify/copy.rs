//! A copy of the database to look at, in the store's own directory.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    super::disk::{COPY, Place},
    other,
};
use crate::queue::sled::OpenError;

/// Room to leave on the disk beside a copy.
const SPARE: u64 = 64 * 1024 * 1024;

/// The copy.
pub(super) struct Copied {
    pub(super) database: PathBuf,
    /// A file that sled should never have made.
    pub(super) blob: Option<PathBuf>,
}

fn directory(of: &Path) -> PathBuf {
    of.join(COPY)
}

/// Copies it; what a former verification left is removed first.
pub(super) fn copy(place: &Place) -> Result<Copied, OpenError> {
    remove(place.directory())?;
    let database = directory(place.directory()).join("sled");
    DirBuilder::new().recursive(true).mode(0o700).create(&database)?;
    let source = place.database();
    let files = files(&source)?;
    let bytes: u64 = files.iter().map(|(_, len)| len).sum();
    let free = rustix::fs::statvfs(place.directory())
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < bytes.saturating_add(SPARE) {
        let needed = (bytes + SPARE).saturating_sub(free) / (1 << 20) + 1;
        return Err(other(format!("verifying needs room for a copy: free {needed} MiB more")));
    }
    for (file, _) in &files {
        fs::copy(file, database.join(file.file_name().unwrap_or_default()))?;
    }
    let blob = match fs::read_dir(source.join("blobs")) {
        Ok(mut blobs) => blobs.next().transpose()?.map(|blob| blob.path()),
        Err(_) => None,
    };
    Ok(Copied { database, blob })
}

fn files(database: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let torn = entry.file_name().to_string_lossy().ends_with(".generating");
        if entry.file_type()?.is_file() && !torn {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(files)
}

/// What sled has noted of the copy's segments is of no use: it takes what is usual today.
pub(super) fn remove_conf(copied: &Copied) -> io::Result<()> {
    match fs::remove_file(copied.database.join("conf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the copy.
pub(super) fn remove(of: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory(of)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
