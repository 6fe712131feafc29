//! The secrets that senders prove themselves with.
//!
//! Owns their life: read from the operator's file or made and kept by brevdue, read again on
//! request, compared in constant time. What a sender does with them is its source's.

use std::{
    fmt,
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{PoisonError, RwLock},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};

use crate::{
    files::owner::give_to_owner_of,
    name::HookName,
    secret::{Digest, MIN_SHARED_LEN, SecretError, SecretFile, matches_any},
};

/// Where made secrets are, in the data directory.
const DIRECTORY: &str = "secrets";
/// Bytes of a made secret: 256 bits.
const MADE: usize = 32;
/// A hook that brevdue makes secrets for has so many at the most, the current one included.
const KEPT: usize = 16;
/// Before the key in a Standard Webhooks secret.
const SIGNING_PREFIX: &str = "whsec_";

/// Who knows the secrets of a hook.
pub trait Accepts: fmt::Debug + Send + Sync {
    /// Whether this is one of them.
    fn accepts(&self, offered: &str) -> bool;
}

/// Codes of a hook that is not configured any more, of which only digests are left.
#[derive(Debug, Default)]
pub struct OldCodes(RwLock<Vec<Digest>>);

impl OldCodes {
    /// From now on these, and no others.
    pub fn set(&self, codes: Vec<Digest>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = codes;
    }
}

impl Accepts for OldCodes {
    fn accepts(&self, offered: &str) -> bool {
        // What a digest takes to compare tells nothing about a secret.
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&Digest::of(offered))
    }
}

impl Accepts for HookSecrets {
    fn accepts(&self, offered: &str) -> bool {
        Self::accepts(self, offered)
    }
}

/// The secrets of one hook; the first is current, the rest are still accepted.
#[derive(Debug)]
pub struct HookSecrets {
    file: SecretFile,
    kind: Kind,
    /// Whether the file is ours, so that we may change it.
    made: bool,
    secrets: RwLock<Vec<SecretString>>,
}

/// Which rule the lines of the file are held to.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Goes into a URL.
    Url,
    /// Goes into an `Authorization` header.
    Bearer,
    /// `whsec_` and a key in base64.
    Signing,
}

impl HookSecrets {
    /// A hook's secrets from the operator's file, or from our own, which is made if it is not
    /// there.
    pub fn open(
        file: Option<&SecretFile>,
        data_dir: &Path,
        name: &HookName,
    ) -> Result<Self, SecretError> {
        match file {
            Some(file) => Self::codes(file),
            None => Ok(Self { made: true, ..Self::read(made(data_dir, name)?, Kind::Url)? }),
        }
    }

    /// The same for who only looks: nothing is made or changed. A secret that is not there yet is one that
    /// nobody has been told.
    pub fn look(
        file: Option<&SecretFile>,
        data_dir: &Path,
        name: &HookName,
    ) -> Result<Self, SecretError> {
        let file = match file {
            Some(file) => return Self::codes(file),
            None => place(data_dir, name)?,
        };
        match file.path().try_exists() {
            Ok(false) => {
                let secrets = RwLock::new(vec![SecretString::from(fresh(file.path())?)]);
                Ok(Self { file, kind: Kind::Url, made: false, secrets })
            }
            // Why it cannot be looked for is told when it is read.
            Ok(true) | Err(_) => Self::read(file, Kind::Url),
        }
    }

    /// Secrets that go into URLs, one a line, from the operator's file.
    pub fn codes(file: &SecretFile) -> Result<Self, SecretError> {
        Self::read(file.clone(), Kind::Url)
    }

    /// Bearer tokens, one a line.
    pub fn bearer(file: &SecretFile) -> Result<Self, SecretError> {
        Self::read(file.clone(), Kind::Bearer)
    }

    /// Standard Webhooks keys, `whsec_…`, one a line.
    pub fn signing(file: &SecretFile) -> Result<Self, SecretError> {
        Self::read(file.clone(), Kind::Signing)
    }

    fn read(file: SecretFile, kind: Kind) -> Result<Self, SecretError> {
        let secrets = RwLock::new(lines(&file, kind)?);
        Ok(Self { file, kind, made: false, secrets })
    }

    /// The one to give out.
    pub fn current(&self) -> SecretString {
        // A file without a secret is refused, so that there is always a first.
        self.all().first().cloned().unwrap_or_default()
    }

    /// Whether this is one of them.
    pub fn accepts(&self, offered: &str) -> bool {
        let secrets = self.all();
        !secrets.is_empty() && matches_any(&secrets, offered)
    }

    /// What tells them apart, the current one first.
    pub fn digests(&self) -> Vec<Digest> {
        self.all().iter().map(|secret| Digest::of(secret.expose_secret())).collect()
    }

    /// Drops old secrets that are not to be kept, from the file, too, if it is ours. The current
    /// one stays.
    pub fn prune(&self, keep: impl Fn(&Digest) -> bool) -> Result<(), SecretError> {
        if !self.made || self.digests().iter().skip(1).all(&keep) {
            return Ok(());
        }
        let _lock = lock(&self.file)?;
        let mut secrets = lines(&self.file, self.kind)?;
        let mut first = true;
        secrets.retain(|secret| {
            std::mem::take(&mut first) || keep(&Digest::of(secret.expose_secret()))
        });
        replace(&self.file, &secrets)?;
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
        Ok(())
    }

    /// The keys of Standard Webhooks secrets.
    pub(super) fn keys(&self) -> Vec<SecretBox<Vec<u8>>> {
        let secrets = self.all();
        let key = |secret: &SecretString| signing_key(secret.expose_secret());
        secrets.iter().filter_map(key).map(|key| SecretBox::new(Box::new(key))).collect()
    }

    /// Where they are read from.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the file again; what was read before stays until what is returned is called.
    pub fn read_anew(&self) -> Result<impl FnOnce() + '_, SecretError> {
        let fresh = lines(&self.file, self.kind)?;
        Ok(move || *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = fresh)
    }

    /// Reads the file again, and accepts what is in it; what was read before stays on an error.
    pub fn reload(&self) -> Result<(), SecretError> {
        self.read_anew()?();
        Ok(())
    }

    /// Puts a new secret before those that `name` has, which are still accepted. For secrets that
    /// brevdue made only; a running daemon takes it in with [`HookSecrets::reload`].
    pub fn rotate(data_dir: &Path, name: &HookName) -> Result<(), SecretError> {
        let file = made(data_dir, name)?;
        let _lock = lock(&file)?;
        let mut secrets = lines(&file, Kind::Url)?;
        if secrets.len() >= KEPT {
            let path = file.path().to_owned();
            let fault = "has 16 secrets already; an old one goes 48 hours after its subscription";
            return Err(SecretError::Content { path, fault });
        }
        secrets.insert(0, SecretString::from(fresh(file.path())?));
        replace(&file, &secrets)
    }

    fn all(&self) -> Vec<SecretString> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lines(file: &SecretFile, kind: Kind) -> Result<Vec<SecretString>, SecretError> {
    match kind {
        Kind::Url => file.read_shared(),
        Kind::Bearer => file.read_lines(bearer_fault),
        Kind::Signing => file.read_lines(signing_fault),
    }
}

/// RFC 6750 section 2.1, and no shorter than any other secret.
fn bearer_fault(token: &str) -> Option<&'static str> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/=".contains(&c);
    if token.len() < MIN_SHARED_LEN {
        Some("has a token shorter than 16 characters: make one (openssl rand -hex 32)")
    } else if !token.bytes().all(legal) {
        Some(
            "has a token with characters other than A-Z a-z 0-9 - . _ ~ + / =, one token a line: make \
             one (openssl rand -hex 32)",
        )
    } else {
        None
    }
}

fn signing_fault(secret: &str) -> Option<&'static str> {
    match signing_key(secret) {
        None => Some(
            "has a line that is not whsec_ and a key in base64: take what the sender shows, or make one \
             (echo whsec_$(openssl rand -base64 32))",
        ),
        Some(key) if key.len() < MIN_SHARED_LEN => Some(
            "has a key shorter than 16 bytes: make one (echo whsec_$(openssl rand -base64 32))",
        ),
        Some(_) => None,
    }
}

fn signing_key(secret: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(secret.strip_prefix(SIGNING_PREFIX)?).ok()
}

/// Where our own file for this hook is.
fn place(data_dir: &Path, name: &HookName) -> Result<SecretFile, SecretError> {
    SecretFile::resolve(&format!("{DIRECTORY}/{name}"), data_dir)
}

/// Our own file for this hook, there and filled.
fn made(data_dir: &Path, name: &HookName) -> Result<SecretFile, SecretError> {
    let file = place(data_dir, name)?;
    if !file.path().exists() {
        let directory = data_dir.join(DIRECTORY);
        private_directory(data_dir, &directory).map_err(|source| unwritable(&directory, source))?;
        let secret = fresh(file.path())?;
        match write(file.path(), &secret, false) {
            Ok(()) => {}
            // Another process was first: its secret it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(unwritable(file.path(), source)),
        }
    }
    Ok(file)
}

/// Makes a folder in the data directory that only the owner of that may enter. The data directory itself is
/// made by the daemon, as its user.
fn private_directory(data_dir: &Path, directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => give_to_owner_of(data_dir, &File::open(directory)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Until it is dropped nobody else changes the file. A process that dies lets go of it.
fn lock(file: &SecretFile) -> Result<File, SecretError> {
    let fail = |source| unwritable(file.path(), source);
    let directory = file.path().parent().ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
    let lock = File::open(directory).map_err(fail)?;
    lock.lock().map_err(fail)?;
    Ok(lock)
}

fn replace(file: &SecretFile, secrets: &[SecretString]) -> Result<(), SecretError> {
    let text: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
    write(file.path(), &text.join("\n"), true).map_err(|source| unwritable(file.path(), source))
}

fn fresh(path: &Path) -> Result<String, SecretError> {
    let mut bytes = [0; MADE];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| unwritable(path, io::Error::other("no randomness")))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// All or nothing, and durable: a secret that Altinn has been told must survive power loss. It is the folder's
/// owner's, whoever runs this, and a file that is replaced keeps its mode.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Mode 0600 is the temporary file's own.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    give_to_owner_of(directory, file.as_file())?;
    if let Ok(before) = path.metadata() {
        file.as_file().set_permissions(before.permissions())?;
    }
    file.as_file().sync_all()?;
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| error.error)?;
    File::open(directory)?.sync_all()?;
    match directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn unwritable(path: &Path, source: io::Error) -> SecretError {
    SecretError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
