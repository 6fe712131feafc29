//! How the client shows who it is: its key, and the name or certificate of that key.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    altinn::auth::token::TokenError,
    config::{KeyName, Maskinporten},
    crypto::{certificate::Certificate, rsa_key::RsaKey},
};

/// Chains of enterprise certificates have three certificates; far more is a wrong file.
const MAX_CHAIN: usize = 10;

/// A key and what stands in the header of its grants.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: RsaKey,
    /// `alg`, and `kid` or `x5c`.
    pub(crate) header: Value,
    /// The leaf of the chain, if there is one.
    pub(crate) certificate: Option<Certificate>,
}

impl Identity {
    /// Reads the key, and the certificate if one names it.
    pub(crate) fn read(settings: &Maskinporten) -> Result<Self, TokenError> {
        let file = &settings.key_file;
        let key = RsaKey::read(&file.read()?).map_err(|fault| TokenError::Key {
            file: file.to_string(),
            reason: fault.to_string(),
        })?;
        match &settings.key_name {
            KeyName::Id(id) => {
                Ok(Self { key, header: json!({ "alg": "RS256", "kid": id }), certificate: None })
            }
            KeyName::Certificate(path) => {
                let fail = |reason: &str| TokenError::Key {
                    file: path.display().to_string(),
                    reason: reason.to_owned(),
                };
                let chain = CertificateDer::pem_file_iter(path)
                    .and_then(|chain| chain.take(MAX_CHAIN + 1).collect::<Result<Vec<_>, _>>())
                    .map_err(|error| fail(&format!("cannot be read as PEM: {error}")))?;
                if chain.len() > MAX_CHAIN {
                    return Err(fail("has more certificates than a chain has"));
                }
                let leaf = chain.first().ok_or_else(|| fail("has no certificate"))?;
                let leaf = Certificate::read(leaf)
                    .ok_or_else(|| fail("begins with what is no X.509 certificate"))?;
                if key.public_key_info().as_ref() != Some(&leaf.public_key_info) {
                    return Err(fail("begins with the certificate of another key than key_file's"));
                }
                let x5c: Vec<_> = chain.iter().map(|one| STANDARD.encode(one)).collect();
                let header = json!({ "alg": "RS256", "x5c": x5c });
                Ok(Self { key, header, certificate: Some(leaf) })
            }
        }
    }

    /// The size of the key.
    pub(crate) fn bits(&self) -> usize {
        self.key.bits()
    }
}
