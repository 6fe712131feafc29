//! Secrets: read from files only, masked in `Debug`, compared in constant time.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::files::operator_file::{self, OperatorFileError};

/// A secret file larger than this is a mistake.
const MAX_FILE: u64 = 64 * 1024;
/// Shorter shared secrets are refused (design section 9).
pub const MIN_SHARED_LEN: usize = 16;

/// Where a secret is read from: a path, or `credential:NAME` for systemd's credentials directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    written: String,
    path: PathBuf,
    /// False for a credential in a process that systemd gave none: commands beside the daemon can
    /// do without its secrets.
    located: bool,
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `credential:NAME` outside systemd.
    #[error(
        "{0} is a credential, which systemd passes to the service only (LoadCredential= in its unit): \
         $CREDENTIALS_DIRECTORY is not set here"
    )]
    NoCredentials(String),
    /// A credential's name that is no plain file name.
    #[error("{0:?} is not a credential's name")]
    CredentialName(String),
    /// The file cannot be read, or is no text.
    #[error(transparent)]
    File(#[from] OperatorFileError),
    /// A secret that we make cannot be kept.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has what cannot be a secret.
    #[error("{path}: {fault}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never the content.
        fault: &'static str,
    },
}

impl SecretFile {
    /// Resolves what stands in the configuration: relative paths against `base`.
    pub fn resolve(written: &str, base: &Path) -> Result<Self, SecretError> {
        let path = match written.strip_prefix("credential:") {
            None => base.join(written),
            Some(name) if name.is_empty() || name.contains('/') || name == ".." || name == "." => {
                return Err(SecretError::CredentialName(name.to_owned()));
            }
            Some(name) => {
                let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY") else {
                    let (written, path) = (written.to_owned(), PathBuf::from(written));
                    return Ok(Self { written, path, located: false });
                };
                Path::new(&directory).join(name)
            }
        };
        Ok(Self { written: written.to_owned(), path, located: true })
    }

    /// The file, or why this process cannot know where it is.
    pub fn locate(&self) -> Result<&Path, SecretError> {
        if self.located {
            Ok(&self.path)
        } else {
            Err(SecretError::NoCredentials(self.written.clone()))
        }
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with its mode, if others may read it or change it.
    pub fn open_to_others(&self) -> Option<String> {
        operator_file::open_to_others(self.locate().ok()?)
    }

    /// The whole file as text, without white space around it.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let text = SecretString::from(operator_file::read(self.locate()?, MAX_FILE)?);
        let trimmed = text.expose_secret().trim();
        if trimmed.is_empty() {
            let fault = "is empty: put the secret into it";
            return Err(SecretError::Content { path: self.path.clone(), fault });
        }
        Ok(SecretString::from(trimmed))
    }

    /// One shared secret a line, the current one first; blank lines are passed over.
    ///
    /// Each must be at least 16 characters, all URL-unreserved (RFC 3986 section 2.3): Altinn
    /// normalises URLs, and a secret must survive that.
    pub fn read_shared(&self) -> Result<Vec<SecretString>, SecretError> {
        self.read_lines(shared_fault)
    }

    /// One secret a line, each without what `rule` calls a fault; blank lines are passed over.
    pub fn read_lines(
        &self,
        rule: fn(&str) -> Option<&'static str>,
    ) -> Result<Vec<SecretString>, SecretError> {
        let text = self.read()?;
        let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|line| match rule(line) {
                None => Ok(SecretString::from(line)),
                Some(fault) => Err(SecretError::Content { path: self.path.clone(), fault }),
            })
            .collect()
    }
}

impl SecretError {
    /// Whether the secret may be good, but not for this process to see: systemd has not passed it.
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::NoCredentials(_))
    }
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn shared_fault(secret: &str) -> Option<&'static str> {
    let unreserved = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    if secret.len() < MIN_SHARED_LEN {
        Some("has a secret shorter than 16 characters: make one (openssl rand -hex 32)")
    } else if !secret.bytes().all(unreserved) {
        Some(
            "has a secret with characters other than A-Z a-z 0-9 - . _ ~, one secret a line: make one \
             (openssl rand -hex 32)",
        )
    } else {
        None
    }
}

/// Whether `offered` is `secret`, in time that does not depend on where they differ.
pub fn matches(secret: &SecretString, offered: &str) -> bool {
    let secret = secret.expose_secret().as_bytes();
    aws_lc_rs::constant_time::verify_slices_are_equal(secret, offered.as_bytes()).is_ok()
}

/// Whether `offered` is any of `secrets`; looks at all of them, whichever fits.
pub fn matches_any(secrets: &[SecretString], offered: &str) -> bool {
    secrets.iter().fold(false, |found, secret| matches(secret, offered) | found)
}

/// Tells one secret from another without keeping it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// SHA-256, in base64url.
    pub fn of(secret: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
        Self(BASE64_URL_SAFE_NO_PAD.encode(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, SecretFile) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), content).unwrap();
        let file = SecretFile::resolve("s", folder.path()).unwrap();
        (folder, file)
    }

    #[test]
    fn newlines_at_the_end_are_trimmed_and_further_lines_are_still_accepted() {
        let (_folder, file) = file("first-secret-0001\nsecond-secret-002\n\n");
        let secrets = file.read_shared().unwrap();
        assert_eq!(secrets.len(), 2);
        assert!(matches(&secrets[0], "first-secret-0001"));
        assert!(matches_any(&secrets, "second-secret-002"));
        assert!(!matches_any(&secrets, "second-secret-00"));
    }

    #[test]
    fn blank_short_and_reserved_secrets_are_refused_without_being_told() {
        for content in ["", "\n", "kort", "has a space in it!", "plus+plus+plus+plus"] {
            let (_folder, file) = file(content);
            let error = file.read_shared().unwrap_err().to_string();
            assert!(content.trim().is_empty() || !error.contains(content), "{error}");
        }
    }

    #[test]
    fn what_editors_and_shells_put_around_a_secret_is_not_of_it() {
        let (_folder, file) = file("\u{feff}first-secret-0001 \r\n");
        assert!(matches(&file.read().unwrap(), "first-secret-0001"));
        assert!(matches(&file.read_shared().unwrap()[0], "first-secret-0001"));
    }

    #[test]
    fn a_credential_that_systemd_did_not_pass_is_an_error_only_when_it_is_read() {
        let file = SecretFile::resolve("credential:no-such-credential", Path::new("/")).unwrap();
        assert!(file.read().is_err());
        assert_eq!(file.to_string(), "credential:no-such-credential");
    }

    #[test]
    fn a_credential_is_a_plain_name() {
        for bad in ["credential:", "credential:../x", "credential:.."] {
            assert!(SecretFile::resolve(bad, Path::new("/")).is_err());
        }
    }
}
