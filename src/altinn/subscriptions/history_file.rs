//! The file that keeps the history: private, durable, and replaced as a whole.
//!
//! Owns that the file system, which can hang, never holds an async thread, and that changes are made
//! in order. What is remembered is `history`'s.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    api::SubscriptionId,
    history::{History, Hook},
    in_order::InOrder,
};
use crate::{clock::Timestamp, files::owner::give_to_owner_of};

const FILE: &str = "altinn-state.json";
const VERSION: u32 = 1;

/// How the history stands in its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    hooks: Vec<Hook>,
    validated: BTreeMap<i64, Timestamp>,
}

/// The file of the history. Several processes may use it: each reads, changes and writes it under
/// the file system's lock. Clones work on it in the order in which they are asked to.
#[derive(Debug, Clone)]
pub struct HistoryFile {
    file: Arc<Blocking>,
    line: InOrder,
}

/// The history cannot be kept, so that nothing is asked of Altinn.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {path}: {source}")]
pub struct HistoryError {
    path: PathBuf,
    source: io::Error,
}

impl HistoryFile {
    /// In this directory.
    pub fn new(data_dir: &Path) -> Self {
        let file = Arc::new(Blocking { path: data_dir.join(FILE) });
        Self { file, line: InOrder::default() }
    }

    /// What is remembered. A file that cannot be read is as good as none, and is told.
    pub async fn read(&self) -> Result<History, HistoryError> {
        let file = Arc::clone(&self.file);
        self.then(move || file.read()).await
    }

    /// The same on this thread, which waits for the file system.
    pub fn read_blocking(&self) -> History {
        self.file.read()
    }

    /// Changes what is remembered: durable when it returns. A caller that stops waiting does not
    /// stop the change.
    pub async fn update<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut History) -> T + Send + 'static,
    ) -> Result<T, HistoryError> {
        let file = Arc::clone(&self.file);
        self.then(move || file.update(change)).await?.map_err(|source| self.error(source))
    }

    /// Does what may block after all that was asked before.
    pub(super) async fn then<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HistoryError> {
        let done = self.line.run(work).await;
        done.map_err(|not_done| self.error(io::Error::other(not_done)))
    }

    fn error(&self, source: io::Error) -> HistoryError {
        HistoryError { path: self.file.path.clone(), source }
    }
}

/// The file itself; every call waits for the file system.
#[derive(Debug)]
struct Blocking {
    path: PathBuf,
}

impl Blocking {
    fn read(&self) -> History {
        match self.try_read() {
            Ok(history) => history,
            Err(error) if error.kind() == io::ErrorKind::NotFound => History::default(),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "what was remembered of the subscriptions is lost");
                History::default()
            }
        }
    }

    fn try_read(&self) -> io::Result<History> {
        let written: Written = serde_json::from_slice(&fs::read(&self.path)?)?;
        if written.version != VERSION {
            return Err(io::Error::other(format!("version {} is not known", written.version)));
        }
        let validated = written.validated.into_iter();
        let validated = validated.map(|(id, at)| (SubscriptionId(id), at)).collect();
        Ok(History { hooks: written.hooks, validated })
    }

    fn update<T>(&self, change: impl FnOnce(&mut History) -> T) -> io::Result<T> {
        let directory = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Held until it is dropped; a process that dies lets go of it.
        let lock = File::open(directory)?;
        lock.lock()?;
        let before = self.read();
        let mut after = before.clone();
        let told = change(&mut after);
        if after != before || !self.path.exists() {
            self.write(directory, &after)?;
        }
        Ok(told)
    }

    fn write(&self, directory: &Path, history: &History) -> io::Result<()> {
        let validated = history.validated.iter().map(|(id, at)| (id.0, *at)).collect();
        let written = Written { version: VERSION, hooks: history.hooks.clone(), validated };
        // Mode 0600 is the temporary file's own.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, &written)?;
        file.write_all(b"\n")?;
        // The service must be able to read what a command of root's has written.
        give_to_owner_of(directory, file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests;
