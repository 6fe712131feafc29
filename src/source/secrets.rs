//! The secrets that senders prove themselves with.
//!
//! Owns their life: read from the operator's file or made and kept by brevdue, read again on
//! request, compared in constant time. What a sender does with them is its source's.

use std::{
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
    name::HookName,
    secret::{MIN_SHARED_LEN, SecretError, SecretFile, matches_any},
};

/// Where made secrets are, in the data directory.
const DIRECTORY: &str = "secrets";
/// Bytes of a made secret: 256 bits.
const MADE: usize = 32;
/// So many secrets are kept by [`HookSecrets::rotate`], the current one included.
const KEPT: usize = 3;
/// Before the key in a Standard Webhooks secret.
const SIGNING_PREFIX: &str = "whsec_";

/// The secrets of one hook; the first is current, the rest are still accepted.
#[derive(Debug)]
pub struct HookSecrets {
    file: SecretFile,
    kind: Kind,
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
            Some(file) => Self::read(file.clone(), Kind::Url),
            None => Self::read(made(data_dir, name)?, Kind::Url),
        }
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
        Ok(Self { file, kind, secrets })
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

    /// The keys of Standard Webhooks secrets.
    pub(super) fn keys(&self) -> Vec<SecretBox<Vec<u8>>> {
        let secrets = self.all();
        let key = |secret: &SecretString| signing_key(secret.expose_secret());
        secrets.iter().filter_map(key).map(|key| SecretBox::new(Box::new(key))).collect()
    }

    /// Reads the file again; what was read before stays on an error.
    pub fn reload(&self) -> Result<(), SecretError> {
        let fresh = lines(&self.file, self.kind)?;
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Puts a new secret before those that `name` has, which are still accepted. For secrets that
    /// brevdue made only; a running daemon takes it in with [`HookSecrets::reload`].
    pub fn rotate(data_dir: &Path, name: &HookName) -> Result<(), SecretError> {
        let file = made(data_dir, name)?;
        let old = lines(&file, Kind::Url)?;
        let mut text = fresh(file.path())?;
        for secret in old.iter().take(KEPT - 1) {
            text.push('\n');
            text.push_str(secret.expose_secret());
        }
        write(file.path(), &text, true).map_err(|source| unwritable(file.path(), source))
    }

    fn all(&self) -> Vec<SecretString> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lines(file: &SecretFile, kind: Kind) -> Result<Vec<SecretString>, SecretError> {
    let rule: fn(&str) -> Option<&'static str> = match kind {
        Kind::Url => return file.read_shared(),
        Kind::Bearer => bearer_fault,
        Kind::Signing => signing_fault,
    };
    let text = file.read()?;
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match rule(line) {
            None => Ok(SecretString::from(line)),
            Some(fault) => Err(SecretError::Content { path: file.path().to_owned(), fault }),
        })
        .collect()
}

/// RFC 6750 section 2.1, and no shorter than any other secret.
fn bearer_fault(token: &str) -> Option<&'static str> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/=".contains(&c);
    if token.len() < MIN_SHARED_LEN {
        Some("has a token shorter than 16 characters")
    } else if !token.bytes().all(legal) {
        Some("has a token with characters other than A-Z a-z 0-9 - . _ ~ + / =")
    } else {
        None
    }
}

fn signing_fault(secret: &str) -> Option<&'static str> {
    match signing_key(secret) {
        None => Some("has a line that is not whsec_ and a key in base64"),
        Some(key) if key.len() < MIN_SHARED_LEN => Some("has a key shorter than 16 bytes"),
        Some(_) => None,
    }
}

fn signing_key(secret: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(secret.strip_prefix(SIGNING_PREFIX)?).ok()
}

/// Our own file for this hook, there and filled.
fn made(data_dir: &Path, name: &HookName) -> Result<SecretFile, SecretError> {
    let file = SecretFile::resolve(&format!("{DIRECTORY}/{name}"), data_dir)?;
    if !file.path().exists() {
        let directory = data_dir.join(DIRECTORY);
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(|source| unwritable(&directory, source))?;
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

fn fresh(path: &Path) -> Result<String, SecretError> {
    let mut bytes = [0; MADE];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| unwritable(path, io::Error::other("no randomness")))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// All or nothing, and durable: a secret that Altinn has been told must survive power loss.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Mode 0600 is the temporary file's own.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
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
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn name() -> HookName {
        "innboks".parse().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_made_once_kept_private_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = HookSecrets::open(None, folder.path(), &name()).unwrap().current();
        assert_eq!(first.expose_secret().len(), 43);
        let again = HookSecrets::open(None, folder.path(), &name()).unwrap();
        assert!(again.accepts(first.expose_secret()));
        assert_eq!(mode(&folder.path().join("secrets")), 0o700);
        assert_eq!(mode(&folder.path().join("secrets/innboks")), 0o600);
        let other = HookSecrets::open(None, folder.path(), &"annen".parse().unwrap()).unwrap();
        assert!(!other.accepts(first.expose_secret()));
        let left = fs::read_dir(folder.path().join("secrets")).unwrap().count();
        assert_eq!(left, 2, "no temporary file is left");
    }

    #[test]
    fn of_two_that_make_it_at_once_both_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let open = || HookSecrets::open(None, folder.path(), &name()).unwrap().current();
        let made: Vec<SecretString> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|secret| secret.expose_secret() == made[0].expose_secret()));
    }

    #[test]
    fn the_first_line_is_current_and_every_line_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s"), "new-secret-000001\nold-secret-000001\n").unwrap();
        let file = SecretFile::resolve("s", folder.path()).unwrap();
        let secrets = HookSecrets::open(Some(&file), folder.path(), &name()).unwrap();
        assert_eq!(secrets.current().expose_secret(), "new-secret-000001");
        assert!(secrets.accepts("old-secret-000001"));
        for wrong in ["", "old-secret-00000", "old-secret-0000011", "new-secret-000001\n"] {
            assert!(!secrets.accepts(wrong), "{wrong}");
        }
        assert!(!folder.path().join("secrets").exists());
    }

    #[test]
    fn reloading_takes_in_a_good_file_and_keeps_the_old_secrets_on_a_bad_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "first-secret-0001").unwrap();
        let file = SecretFile::resolve("s", folder.path()).unwrap();
        let secrets = HookSecrets::open(Some(&file), folder.path(), &name()).unwrap();
        fs::write(&path, "second-secret-001").unwrap();
        secrets.reload().unwrap();
        assert!(secrets.accepts("second-secret-001") && !secrets.accepts("first-secret-0001"));
        for bad in ["", "short", "not unreserved!!!"] {
            fs::write(&path, bad).unwrap();
            secrets.reload().unwrap_err();
            assert!(secrets.accepts("second-secret-001"));
        }
        fs::remove_file(&path).unwrap();
        secrets.reload().unwrap_err();
        assert!(secrets.accepts("second-secret-001"));
        HookSecrets::open(Some(&file), folder.path(), &name()).unwrap_err();
    }

    #[test]
    fn rotating_puts_a_new_secret_first_and_accepts_the_two_before() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = HookSecrets::open(None, folder.path(), &name()).unwrap();
        let mut history = vec![secrets.current()];
        for _ in 0..3 {
            HookSecrets::rotate(folder.path(), &name()).unwrap();
            secrets.reload().unwrap();
            history.push(secrets.current());
        }
        let accepted: Vec<bool> =
            history.iter().map(|secret| secrets.accepts(secret.expose_secret())).collect();
        assert_eq!(accepted, [false, true, true, true]);
        assert_eq!(mode(&folder.path().join("secrets/innboks")), 0o600);
    }

    #[test]
    fn tokens_and_signing_keys_that_cannot_be_right_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = SecretFile::resolve("s", folder.path()).unwrap();
        let write = |text: &str| fs::write(folder.path().join("s"), text).unwrap();
        write("abcdefghijklmnop+/==\n");
        assert!(HookSecrets::bearer(&file).is_ok());
        for bad in ["", "short", "with a space in the midst"] {
            write(bad);
            assert!(HookSecrets::bearer(&file).is_err(), "{bad}");
        }
        write("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        assert_eq!(HookSecrets::signing(&file).unwrap().keys().len(), 1);
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_!!!!", "whsec_"] {
            write(bad);
            assert!(HookSecrets::signing(&file).is_err(), "{bad}");
        }
    }
}
