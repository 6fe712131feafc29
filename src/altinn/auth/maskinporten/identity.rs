//! How the client shows who it is: its key, and the name or certificate of that key.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{
    altinn::auth::token::TokenError,
    clock::Timestamp,
    config::{KeyName, Maskinporten},
    crypto::{
        certificate::Certificate,
        certificate_file::{self, CertificateFileError},
        chain,
        rsa_key::RsaKey,
    },
    secret::SecretFile,
};

/// A key and what stands in the header of its grants.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: RsaKey,
    /// `alg`, and `kid` or `x5c`.
    pub(crate) header: Value,
    /// The leaf of the chain, if there is one.
    pub(crate) certificate: Option<Certificate>,
    chain: Vec<CertificateDer<'static>>,
}

/// Which of the client's settings is at fault, and how.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct IdentityFault {
    /// Of `[altinn.maskinporten]`.
    pub(crate) setting: &'static str,
    pub(crate) error: TokenError,
    /// Whether the file may be good, but not for this process to see.
    pub(crate) unseen: bool,
}

/// What is wrong with a key and with the certificate that names it.
#[derive(Debug)]
pub(crate) struct IdentityFaults {
    pub(crate) first: IdentityFault,
    pub(crate) second: Option<IdentityFault>,
}

impl From<IdentityFault> for TokenError {
    fn from(fault: IdentityFault) -> Self {
        fault.error
    }
}

impl Identity {
    /// Reads the key, and the certificate if one names it. The first fault.
    pub(crate) fn read(settings: &Maskinporten) -> Result<Self, IdentityFault> {
        Self::try_read(&settings.key_file, &settings.key_name).map_err(|faults| faults.first)
    }

    /// The same; a second fault if both files have one.
    pub(crate) fn try_read(
        key_file: &SecretFile,
        key_name: &KeyName,
    ) -> Result<Self, Box<IdentityFaults>> {
        let one = |first| Box::new(IdentityFaults { first, second: None });
        let key = key(key_file);
        match key_name {
            KeyName::Id(id) => key.and_then(|key| registered(key, id, key_file)).map_err(one),
            KeyName::OfKey => key.and_then(|key| named_by_itself(key, key_file)).map_err(one),
            KeyName::Certificate(path) => match (key, certificate_file::chain(path)) {
                (Ok(key), Ok(chain)) => {
                    certified(key, chain, &path.display().to_string()).map_err(one)
                }
                (Err(first), chain) => {
                    Err(Box::new(IdentityFaults { first, second: chain.err().map(unreadable) }))
                }
                (Ok(_), Err(fault)) => Err(one(unreadable(fault))),
            },
        }
    }

    /// The size of the key.
    pub(crate) fn bits(&self) -> usize {
        self.key.bits()
    }

    /// What Maskinporten will object to in the chain.
    pub(crate) fn warnings(&self, now: Timestamp) -> Vec<String> {
        chain::of_any(&self.chain, now)
    }
}

fn fault(setting: &'static str, file: String, reason: String) -> IdentityFault {
    IdentityFault { setting, error: TokenError::Key { file, reason }, unseen: false }
}

fn key(file: &SecretFile) -> Result<RsaKey, IdentityFault> {
    const SETTING: &str = "key_file";
    let text = file.read().map_err(|error| {
        let unseen = error.is_unseen();
        IdentityFault { setting: SETTING, error: error.into(), unseen }
    })?;
    let path = || file.path().display().to_string();
    RsaKey::read(&text).map_err(|reason| fault(SETTING, path(), reason.to_string()))
}

fn registered(key: RsaKey, id: &str, file: &SecretFile) -> Result<Identity, IdentityFault> {
    if let Some(own) = key.id().filter(|own| *own != id) {
        let own: String = own.escape_debug().take(80).collect();
        let reason = format!(
            "is a JWK whose kid is \"{own}\", not this key_id: take the key that is registered under it, \
             or correct key_id, or leave it out and the kid serves"
        );
        return Err(fault("key_id", file.path().display().to_string(), reason));
    }
    let header = json!({ "alg": "RS256", "kid": id });
    Ok(Identity { key, header, certificate: None, chain: Vec::new() })
}

fn named_by_itself(key: RsaKey, file: &SecretFile) -> Result<Identity, IdentityFault> {
    let Some(id) = key.id() else {
        let reason = "is a key without a name (only a JWK can have a kid): set key_id to the id that it is \
                      registered under, or certificate_file to its enterprise certificate";
        return Err(fault("key_id", file.path().display().to_string(), reason.to_owned()));
    };
    let header = json!({ "alg": "RS256", "kid": id });
    Ok(Identity { key, header, certificate: None, chain: Vec::new() })
}

fn certified(
    key: RsaKey,
    chain: Vec<CertificateDer<'static>>,
    file: &str,
) -> Result<Identity, IdentityFault> {
    let fail = |reason: &str| fault("certificate_file", file.to_owned(), reason.to_owned());
    let read: Vec<_> = chain.iter().filter_map(|der| Certificate::read(der)).collect();
    let own = key.public_key_info();
    let place = read.iter().position(|one| Some(&one.public_key_info) == own.as_ref());
    match place {
        Some(0) => {}
        Some(_) => return Err(fail("begins with an authority's certificate: put the leaf first")),
        None => {
            return Err(fail(
                "begins with the certificate of another key than key_file's: name the two that belong \
                 together",
            ));
        }
    }
    let x5c: Vec<_> = chain.iter().map(|one| STANDARD.encode(one)).collect();
    let header = json!({ "alg": "RS256", "x5c": x5c });
    Ok(Identity { key, header, certificate: read.into_iter().next(), chain })
}

fn unreadable(error: CertificateFileError) -> IdentityFault {
    let (file, reason) = match error {
        CertificateFileError::Content { path, fault } => {
            (path.display().to_string(), fault.to_string())
        }
        CertificateFileError::File(error) => {
            let error = TokenError::Secret(error.into());
            return IdentityFault { setting: "certificate_file", error, unseen: false };
        }
    };
    fault("certificate_file", file, reason)
}
