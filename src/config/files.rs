//! The files that a configuration names, and what each is for.
//!
//! Owns the list only, which is there also when something else in the configuration is wrong: so that all
//! faults can be told at once. Each file is tried as it is used, by the composition root.

use std::path::PathBuf;

use crate::secret::SecretFile;

/// A file, or files that go together.
#[derive(Debug, Clone)]
pub struct NamedFile {
    /// The path of the key that names it, or of the table that names both.
    pub key: String,
    /// What it is for.
    pub role: Role,
}

/// What a file is for.
#[derive(Debug, Clone)]
pub enum Role {
    /// The store, and what brevdue makes.
    DataDir(PathBuf),
    /// The admin API's socket, which is made.
    Socket(PathBuf),
    /// `[server] tls`.
    Certificate {
        /// Both files.
        tls: Tls,
        /// The host that the certificate is to name, if it is known.
        host: Option<String>,
    },
    /// Authorities that are trusted.
    Authorities(PathBuf),
    /// One value for a header.
    GatewayKey(SecretFile),
    /// The client's key, and what names it; the key is the table's.
    Client(SecretFile, KeyName),
    /// Secrets of a hook of Altinn's.
    Codes(SecretFile),
    /// Bearer tokens.
    Bearer(SecretFile),
    /// Standard Webhooks keys.
    Signing(SecretFile),
    /// A program that is run.
    Program(PathBuf),
    /// A file that is appended to.
    Output(PathBuf),
    /// No file of its own, but the system's authorities: it is called over TLS.
    Remote,
}

/// `[server] tls`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM, the leaf first.
    pub certificate_file: PathBuf,
    /// PEM.
    pub key_file: SecretFile,
}

/// `[altinn.maskinporten]` `key_id`, `certificate_file`, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyName {
    /// The key's id as registered with the client (`kid`).
    Id(String),
    /// The `kid` that stands in the key's JWK.
    OfKey,
    /// An enterprise certificate: the chain in PEM, the leaf first (`x5c`).
    Certificate(PathBuf),
}
