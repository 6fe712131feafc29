//! The certificate, and its reload without a restart.
//!
//! Owns that a chain and a key are served only when both were read whole and belong together. What clients will
//! object to in a good chain is told, and does not keep it from being served.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use secrecy::ExposeSecret;
use tokio_rustls::rustls::{
    self, InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

use crate::{
    clock::Clock,
    crypto::{
        certificate_file::{self, CertificateFileError},
        chain::{self, Audience},
        private_key::{KeyFault, private_key},
    },
    error_chain::in_one_line,
    secret::{SecretError, SecretFile},
};

/// Where a chain and its key are.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: SecretFile,
}

/// Why there is no certificate to serve: what is wrong with each of the files.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", told(self))]
pub struct TlsError {
    /// With the certificate's, or with both together.
    pub certificate: Option<CertificateFileFault>,
    /// With the key's.
    pub key: Option<KeyFileFault>,
}

/// What is wrong with the certificate's file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileFault {
    /// It has no chain.
    #[error(transparent)]
    File(#[from] CertificateFileError),
    /// The key is another certificate's of the same file.
    #[error(
        "{}: has the certificate of the key as number {place}, after one of an authority: put it first",
        path.display()
    )]
    Order {
        /// The file.
        path: PathBuf,
        /// From 1.
        place: usize,
    },
    /// The key is no certificate's in it.
    #[error(
        "{}: begins with the certificate of another key than the one in {}: name the two that were \
         issued together",
        path.display(),
        key.display()
    )]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// TLS does not take it.
    #[error("{}: TLS does not take it: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// What is wrong with the key's file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileFault {
    /// It cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It has no key.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it has.
        fault: KeyFault,
    },
    /// TLS does not take it.
    #[error(
        "{}: has a key that TLS does not take: it is damaged, or of a kind or size that is not safe \
         (RSA needs 2048 bits): make a new one, and have a certificate issued for it",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

fn told(error: &TlsError) -> String {
    let certificate = error.certificate.as_ref().map(ToString::to_string);
    let key = error.key.as_ref().map(ToString::to_string);
    [certificate, key].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A certificate chain and its key, read anew on demand.
pub struct Certificates {
    files: CertificateFiles,
    audience: Audience,
    clock: Clock,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads both files; the chain's leaf comes first and must belong to the key.
    pub fn load(
        files: CertificateFiles,
        audience: Audience,
        clock: Clock,
    ) -> Result<Arc<Self>, Box<TlsError>> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Arc::new(Self { files, audience, clock, current }))
    }

    /// Reads both files again; the old certificate stays until what is returned is called.
    pub fn read_anew(&self) -> Result<impl FnOnce() + '_, Box<TlsError>> {
        let fresh = Arc::new(read(&self.files)?);
        Ok(move || *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh)
    }

    /// What clients will object to, with the file's path.
    pub fn warnings(&self) -> Vec<String> {
        let current = self.current();
        let told = chain::of_server(&current.cert, &self.audience, self.clock.now());
        let path = self.files.certificate.display();
        told.into_iter().map(|words| format!("{path}: {words}")).collect()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Both files are looked at, whatever is wrong with the first.
fn read(files: &CertificateFiles) -> Result<CertifiedKey, Box<TlsError>> {
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    let chain = certificate_file::chain(&files.certificate);
    let key = signing_key(&files.key, &provider);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            let certificate = chain.err().map(CertificateFileFault::from);
            return Err(Box::new(TlsError { certificate, key: key.err() }));
        }
    };
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::new(vec![one.clone()], Arc::clone(&key)).keys_match()
    };
    let path = || files.certificate.clone();
    let fault = match chain.first().map(fits) {
        // A key that cannot tell its public half is not of another certificate for that.
        Some(Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown))) => {
            return Ok(CertifiedKey::new(chain, key));
        }
        Some(Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch))) => {
            let key = files.key.path().to_owned();
            let place = chain.iter().position(|one| fits(one).is_ok());
            place.map_or_else(
                || CertificateFileFault::OtherKey { path: path(), key },
                |at| CertificateFileFault::Order { path: path(), place: at + 1 },
            )
        }
        Some(Err(source)) => CertificateFileFault::Unusable { path: path(), source },
        None => CertificateFileFault::Unusable {
            path: path(),
            source: rustls::Error::NoCertificatesPresented,
        },
    };
    Err(Box::new(TlsError { certificate: Some(fault), key: None }))
}

fn signing_key(
    file: &SecretFile,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, KeyFileFault> {
    let path = || file.path().to_owned();
    let text = file.read()?;
    let key: PrivateKeyDer<'static> = private_key(text.expose_secret())
        .map_err(|fault| KeyFileFault::Content { path: path(), fault })?;
    let key = provider.key_provider.load_private_key(key);
    key.map_err(|_| KeyFileFault::Unusable { path: path() })
}

/// Why a handshake failed. Where rustls names its own variants, as words.
pub(super) fn fault_in_words(error: &io::Error) -> String {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref());
    match fault {
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the peer sent the alert \"{}\"", in_words(alert))
        }
        Some(rustls::Error::PeerIncompatible(fault)) => {
            format!("the peer cannot be served: {}", in_words(fault))
        }
        Some(rustls::Error::PeerMisbehaved(fault)) => {
            format!("the peer broke a rule: {}", in_words(fault))
        }
        Some(rustls::Error::InvalidMessage(fault)) => {
            format!("a message cannot be read: {}", in_words(fault))
        }
        Some(rustls::Error::InappropriateHandshakeMessage { got_type, .. }) => {
            format!("the message \"{}\" came out of turn", in_words(got_type))
        }
        Some(rustls::Error::InappropriateMessage { got_type, .. }) => {
            format!("a message of the kind \"{}\" came out of turn", in_words(got_type))
        }
        Some(_) | None => in_one_line(error),
    }
}

/// `NoCipherSuitesInCommon` as "no cipher suites in common".
fn in_words(variant: &impl fmt::Debug) -> String {
    let (mut words, mut before) = (String::new(), ' ');
    for c in format!("{variant:?}").chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_numeric()) {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
        before = c;
    }
    words
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("file", &self.files.certificate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{AlertDescription, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[test]
    fn why_a_handshake_failed_is_told_in_words() {
        for (fault, words) in [
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "the peer sent the alert \"unknown ca\"",
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                "the peer cannot be served: no cipher suites in common",
            ),
            (
                PeerMisbehaved::DuplicateClientHelloExtensions.into(),
                "the peer broke a rule: duplicate client hello extensions",
            ),
            (rustls::Error::DecryptError, "cannot decrypt peer's message"),
        ] {
            assert_eq!(fault_in_words(&io::Error::other(fault)), words);
        }
        let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(fault_in_words(&gone), "unexpected end of file");
    }
}
