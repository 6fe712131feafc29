//! A file of certificates in PEM: each of them is read, or none.
//!
//! Owns what a block is that is no certificate, and that every certificate can be read by TLS. Whether the chain is a
//! good one is `chain`'s.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::{
    self, CertificateError, RootCertStore, pki_types::CertificateDer, server::ParsedCertificate,
};

use super::{
    certificate::{Certificate, Link},
    pem::{self, Block, PemFault},
};
use crate::files::operator_file::{self, OperatorFileError};

/// A bundle of every authority there is has a quarter of this.
pub const LARGEST: u64 = 1024 * 1024;
/// Chains have up to four; far more is a wrong file.
const LONGEST_CHAIN: usize = 10;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// It cannot be read as text.
    #[error(transparent)]
    File(#[from] OperatorFileError),
    /// It can, but not as certificates.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CertificateFault,
    },
}

/// Why a text has no certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// PEM that is not whole.
    #[error(transparent)]
    Pem(#[from] PemFault),
    /// Nothing at all.
    #[error("has no certificate in PEM: name the file with the certificate chain")]
    None,
    /// A key.
    #[error("has a private key and no certificate: name the chain's file (are the two exchanged?)")]
    Key,
    /// Another kind of block.
    #[error("has {label} on line {line}, which is no certificate: {cure}")]
    Other {
        /// What.
        label: String,
        /// Where.
        line: usize,
        /// What to do.
        cure: &'static str,
    },
    /// One that cannot be read.
    #[error("has a certificate on line {line} (number {number} of {of}) that {why}")]
    Unreadable {
        /// Where.
        line: usize,
        /// Which, from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A bundle.
    #[error("has {0} certificates: a chain has its leaf, and one to three above it; leave those")]
    TooMany(usize),
}

/// A chain that is shown: the leaf and those above it.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    with(path, |text| {
        let chain = chain_of(text)?;
        if chain.len() > LONGEST_CHAIN {
            Err(CertificateFault::TooMany(chain.len()))
        } else {
            Ok(chain)
        }
    })
}

/// Authorities that are trusted.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    with(path, |text| certificates(text, authority_fault))
}

/// The chain of a text.
pub fn chain_of(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    certificates(text, link_fault)
}

fn with<T>(
    path: &Path,
    read: impl FnOnce(&str) -> Result<T, CertificateFault>,
) -> Result<T, CertificateFileError> {
    let text = operator_file::read(path, LARGEST)?;
    read(&text).map_err(|fault| CertificateFileError::Content { path: path.to_owned(), fault })
}

fn certificates(
    text: &str,
    fault: fn(&CertificateDer<'static>) -> Option<String>,
) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let mut found = Vec::new();
    let mut keys = 0;
    for Block { label, der, line } in pem::blocks(text)? {
        match label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => found.push((line, CertificateDer::from(der))),
            // What other servers have in the same file.
            "EC PARAMETERS" | "DH PARAMETERS" => {}
            key if key.ends_with("PRIVATE KEY") => keys += 1,
            other => {
                let cure = cure(other);
                return Err(CertificateFault::Other { label, line, cure });
            }
        }
    }
    match (found.len(), keys) {
        (0, 0) => return Err(CertificateFault::None),
        (0, _) => return Err(CertificateFault::Key),
        _ => {}
    }
    let of = found.len();
    for (number, (line, der)) in (1..).zip(&found) {
        if let Some(why) = fault(der) {
            return Err(CertificateFault::Unreadable { line: *line, number, of, why });
        }
    }
    Ok(found.into_iter().map(|(_, der)| der).collect())
}

fn cure(label: &str) -> &'static str {
    match label {
        "TRUSTED CERTIFICATE" => {
            "it is OpenSSL's own form (openssl x509 -in FILE -out NEW.pem makes a plain one)"
        }
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "it is what the authority is sent; name what it answered with"
        }
        "PKCS7" | "CMS" => "take them out (openssl pkcs7 -in FILE -print_certs -out NEW.pem)",
        _ => "take it out",
    }
}

/// What keeps TLS from reading a certificate of a chain.
fn link_fault(der: &CertificateDer<'static>) -> Option<String> {
    let version = Link::read(der).map(|link| link.version);
    match ParsedCertificate::try_from(der) {
        Ok(_) if Certificate::read(der).is_some() => None,
        Ok(_) => Some("is damaged: get it anew".to_owned()),
        Err(_) if version.is_some_and(|version| version < 3) => Some(format!(
            "is of X.509 version {}, which TLS does not take: have one of version 3 issued",
            version.unwrap_or_default()
        )),
        Err(error) => Some(words(&error)),
    }
}

fn authority_fault(der: &CertificateDer<'static>) -> Option<String> {
    RootCertStore::empty().add(der.clone()).err().map(|error| words(&error))
}

/// In rustls's words a certificate is always the peer's.
fn words(error: &rustls::Error) -> String {
    if *error == rustls::Error::InvalidCertificate(CertificateError::BadEncoding) {
        return "is damaged: get it anew, whole".to_owned();
    }
    format!("TLS cannot read ({error}): get another")
}

#[cfg(test)]
mod tests;
