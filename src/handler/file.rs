//! `kind = "file"`: one JSON line per event, on stable storage before it counts as delivered.
//!
//! Owns the file's last line. A crash or a full disk can leave a piece of a line at the end. The
//! event it is of was not reported as delivered, so it comes again, whole. Thus:
//!
//! - A piece that looks as only our own broken write does (the beginning of a JSON object, cut
//!   off) is cut away: left there, it would make the file unreadable as JSON lines for ever, and
//!   nothing is lost with it.
//! - Anything else without a newline at its end, a whole object or a text that someone else wrote,
//!   gets its newline: bytes that may not be ours, or are whole, are never removed.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::Read,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;

use super::{Attempt, Handler, Outcome};
use crate::{config, event::Event};

/// A last line longer than this is none of ours: the largest event is 1 MiB.
const LONGEST: u64 = 2 * 1024 * 1024;

/// Appends events to one file.
#[derive(Debug)]
pub struct FileHandler {
    path: Arc<PathBuf>,
    /// Locked for a whole write: one at a time, in the order of their coming.
    file: Arc<Mutex<Option<File>>>,
    reopen: Arc<AtomicBool>,
}

impl FileHandler {
    /// A handler for this file; opened with the first event, so that a log folder that is not
    /// there yet does not keep the daemon from starting.
    pub fn new(config: &config::FileHandler) -> Self {
        Self { path: Arc::new(config.path.clone()), file: Arc::default(), reopen: Arc::default() }
    }
}

#[async_trait]
impl Handler for FileHandler {
    async fn deliver(&self, attempt: Attempt<'_>) -> Outcome {
        let line = line(&attempt.stored.event);
        let (path, reopen) = (self.path.clone(), self.reopen.clone());
        // Goes with the write: one that is dropped at its time-out still ends before the next.
        let mut file = self.file.clone().lock_owned().await;
        let place = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            if reopen.swap(false, Ordering::SeqCst) {
                *file = None;
            }
            append(&mut file, &path, &line)
        });
        match written.await {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(error)) => Outcome::retry(cannot_write(&place, &error)),
            Err(_) => Outcome::retry("the write was broken off"),
        }
    }

    fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
        // Closed now if nothing is being written, so that a rotated file does not hold its room
        // until the next event.
        if let Ok(mut file) = self.file.try_lock() {
            *file = None;
        }
    }
}

/// The file, what the system said of it, and what to do about that.
fn cannot_write(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    let cure = if error.kind() == io::ErrorKind::NotFound {
        format!(": make the folder {folder} for the user who runs brevdue, or correct path")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        format!(": give the file and the folder {folder} to the user who runs brevdue")
    } else {
        String::new()
    };
    format!("cannot write the file {}: {error}{cure}", path.display())
}

/// The event as one line. In JSON a raw newline stands only between tokens, where a space says
/// the same.
fn line(event: &Event) -> Vec<u8> {
    let flat = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    event.json().iter().map(flat).chain([b'\n']).collect()
}

/// Appends and syncs. After a failure the file is opened anew, and its end looked at.
fn append(slot: &mut Option<File>, path: &Path, line: &[u8]) -> io::Result<()> {
    let open = slot.take().filter(|file| is_at(file, path));
    let mut file = open.map_or_else(|| open_at(path), Ok)?;
    file.write_all(line)?;
    file.sync_data()?;
    *slot = Some(file);
    Ok(())
}

/// Whether the path still names this file: rotation moves it away.
fn is_at(file: &File, path: &Path) -> bool {
    let same =
        |ours: Metadata, named: Metadata| (ours.dev(), ours.ino()) == (named.dev(), named.ino());
    file.metadata().and_then(|ours| Ok(same(ours, path.metadata()?))).unwrap_or(false)
}

/// Opens or creates the file, makes its name durable, and mends its end.
fn open_at(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o640).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file, so nothing in it is durable"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    mend(&mut file)?;
    Ok(file)
}

fn mend(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    Read::by_ref(file).take(LONGEST).read_to_end(&mut end)?;
    let last = end.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let size = u64::try_from(last.len()).unwrap_or(LONGEST);
    if last.is_empty() {
        Ok(())
    } else if size < LONGEST && is_torn(last) {
        tracing::warn!(bytes = size, "cut off a broken last line; its event comes again");
        file.set_len(length - size)
    } else {
        file.write_all(b"\n")
    }
}

/// Whether this is the beginning of a JSON object, and not the whole of it.
fn is_torn(line: &[u8]) -> bool {
    let end = serde_json::from_slice::<IgnoredAny>(line).err().is_some_and(|error| error.is_eof());
    line.first() == Some(&b'{') && end
}

#[cfg(test)]
mod tests;
