//! What this store remembers of its subscriptions at Altinn, so that restarts keep it.
//!
//! Altinn says neither when a subscription was validated nor which store asked for it, and a
//! replaced one may go only some time after its replacement was validated. Owns that memory and
//! the file it is in. A code is kept as a digest only. Losing the file does no harm: overlaps begin
//! again, and what is not known to be ours to remove is only reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{api::SubscriptionId, plan::Ours};
use crate::{clock::Timestamp, name::HookName, secret::Digest};

/// A hook is answered for so long after Altinn has no subscription with it any more: an event that
/// was fanned out before is pushed for up to 46 h 47 min.
pub const STILL_ACCEPTED: Duration = Duration::from_secs(48 * 3600);

const FILE: &str = "altinn-state.json";
const VERSION: u32 = 1;

/// A secret that a hook of this store accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The hook.
    pub name: HookName,
    /// Which.
    pub code: Digest,
    /// Whether it is the one that new subscriptions get.
    pub current: bool,
}

/// One hook with one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hook {
    name: HookName,
    code: Digest,
    /// Whether this store has asked Altinn for a subscription with it.
    #[serde(default)]
    asked: bool,
    /// Since when it is not current, and Altinn has nothing with it.
    #[serde(default)]
    gone: Option<Timestamp>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    hooks: Vec<Hook>,
    /// When a row was first seen validated.
    validated: BTreeMap<SubscriptionId, Timestamp>,
}

impl Memory {
    /// Takes over what a list says, and forgets what is over.
    pub(super) fn observe(&mut self, held: &[Held], ours: &[Ours<'_>], now: Timestamp) {
        for held in held {
            if self.find(held.name.as_str(), &held.code).is_none() {
                let (name, code) = (held.name.clone(), held.code.clone());
                self.hooks.push(Hook { name, code, asked: false, gone: None });
            }
        }
        for hook in &mut self.hooks {
            let current = held
                .iter()
                .any(|held| held.current && held.name == hook.name && held.code == hook.code);
            let there = ours
                .iter()
                .any(|row| row.name == hook.name.as_str() && row.code.as_ref() == Some(&hook.code));
            hook.gone =
                if current || there { None } else { Some(hook.gone.map_or(now, |at| at.min(now))) };
        }
        let over = |gone: Timestamp| now.since(gone) >= STILL_ACCEPTED;
        self.hooks.retain(|hook| !hook.gone.is_some_and(over));
        let seen: BTreeSet<_> =
            ours.iter().filter(|row| row.row.validated).map(|row| row.row.id).collect();
        self.validated.retain(|id, _| seen.contains(id));
        for id in seen {
            let at = self.validated.entry(id).or_insert(now);
            // The clock may have been wrong, and is set right since.
            *at = now.min(*at);
        }
    }

    fn find(&self, name: &str, code: &Digest) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.name.as_str() == name && hook.code == *code)
    }

    /// Notes, before it is done, that a subscription is asked for.
    pub(super) fn asks(&mut self, name: &HookName, code: &Digest) {
        let known = self.hooks.iter_mut().find(|hook| hook.name == *name && hook.code == *code);
        if let Some(hook) = known {
            hook.asked = true;
        }
    }

    /// Whether this store has asked for a subscription of this name with this code.
    pub(super) fn asked(&self, name: &str, code: &Digest) -> bool {
        self.find(name, code).is_some_and(|hook| hook.asked)
    }

    /// When a row was first seen validated.
    pub(super) fn validated(&self, id: SubscriptionId) -> Option<Timestamp> {
        self.validated.get(&id).copied()
    }

    /// Whether a hook is still answered with this code.
    pub fn remembers(&self, name: &HookName, code: &Digest) -> bool {
        self.find(name.as_str(), code).is_some()
    }

    /// Every hook with its codes that are still accepted.
    pub fn hooks(&self) -> BTreeMap<HookName, Vec<Digest>> {
        let mut hooks: BTreeMap<HookName, Vec<Digest>> = BTreeMap::new();
        for hook in &self.hooks {
            hooks.entry(hook.name.clone()).or_default().push(hook.code.clone());
        }
        hooks
    }
}

/// How the memory stands in its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    hooks: Vec<Hook>,
    validated: BTreeMap<i64, Timestamp>,
}

/// The file of the memory. Several processes may use it: each reads, changes and writes it under
/// a lock.
#[derive(Debug, Clone)]
pub struct MemoryFile {
    path: PathBuf,
}

/// The memory cannot be kept, so that nothing is asked of Altinn.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {path}: {source}")]
pub struct MemoryError {
    path: PathBuf,
    source: io::Error,
}

impl MemoryFile {
    /// In this directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// What is remembered. A file that cannot be read is as good as none, and is told.
    pub fn read(&self) -> Memory {
        match self.try_read() {
            Ok(memory) => memory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "what was remembered of the subscriptions is lost");
                Memory::default()
            }
        }
    }

    fn try_read(&self) -> io::Result<Memory> {
        let written: Written = serde_json::from_slice(&fs::read(&self.path)?)?;
        if written.version != VERSION {
            return Err(io::Error::other(format!("version {} is not known", written.version)));
        }
        let validated = written.validated.into_iter();
        let validated = validated.map(|(id, at)| (SubscriptionId(id), at)).collect();
        Ok(Memory { hooks: written.hooks, validated })
    }

    /// Changes what is remembered: durable when it returns.
    pub fn update<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> Result<T, MemoryError> {
        self.try_update(change).map_err(|source| MemoryError { path: self.path.clone(), source })
    }

    fn try_update<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> io::Result<T> {
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

    fn write(&self, directory: &Path, memory: &Memory) -> io::Result<()> {
        let validated = memory.validated.iter().map(|(id, at)| (id.0, *at)).collect();
        let written = Written { version: VERSION, hooks: memory.hooks.clone(), validated };
        // Mode 0600 is the temporary file's own.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, &written)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests;
