//! A private key's file in PEM: exactly one key, and not under a password.
//!
//! Owns what a text is that is no such key, for people. What the key is good for is for who asked.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::pem::{self, Block, PemFault};
use crate::files::operator_file::Foreign;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Why a text is no key. Never has anything of the text in it but the kind of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither PEM nor a JWK.
    #[error("has no private key: it must be unencrypted PEM, with BEGIN and END lines")]
    None,
    /// PEM that is not whole, or encrypted.
    #[error(transparent)]
    Pem(#[from] PemFault),
    /// A public key.
    #[error("has a public key and no private one: name the file with the private half")]
    Public,
    /// A certificate.
    #[error("has a certificate and no private key: name the key's file (are the two exchanged?)")]
    Certificate,
    /// A certificate's request.
    #[error("has a {0} and no private key: name the key's file")]
    Other(String),
    /// OpenSSH's own form.
    #[error(
        "has a key in OpenSSH's form: make PEM of a copy (ssh-keygen -p -N '' -m PKCS8 -f COPY)"
    )]
    OpenSsh,
    /// More than one.
    #[error("has {0} private keys, and nobody can tell which is meant: leave one")]
    Several(usize),
    /// A good file, encoded once more.
    #[error("is the base64 of {0}: decode it (base64 -d FILE > NEW)")]
    Base64(&'static str),
    /// The content of PEM without its lines.
    #[error(
        "is the base64 of DER: it needs its BEGIN and END lines (the whole file was not copied)"
    )]
    Bare,
    /// A JWK, for TLS.
    #[error("is a JWK: for TLS the key must be PEM")]
    Jwk,
    /// Several keys in JSON.
    #[error("is a set of JWKs (\"keys\"): leave one JWK alone, without the list around it")]
    JwkSet,
    /// JSON that is no JWK.
    #[error("is not the JSON of a JWK: see that the whole file was copied")]
    NotJson,
    /// A key of another kind than RSA.
    #[error(
        "has a key that is not plain RSA ({0}): Maskinporten needs RSA of 2048 bits or more \
         (openssl genrsa -out FILE 4096)"
    )]
    NotRsa(String),
    /// A JWK without its private part.
    #[error("is a JWK with the public half only: name the private one, with \"d\"")]
    PublicJwk,
    /// A JWK without some of its numbers.
    #[error("is a JWK that lacks {0}: export it anew, with all of n, e, d, p, q, dp, dq and qi")]
    Incomplete(String),
    /// A key that is too short.
    #[error(
        "has an RSA key of {0} bits: make one of 2048 bits or more (openssl genrsa -out FILE 4096)"
    )]
    Small(usize),
    /// The library refuses it.
    #[error(
        "has an RSA key that cannot sign: it is damaged, or not of 2048 to 8192 bits: get it anew"
    )]
    Unusable,
}

/// The one key of a text.
pub fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, KeyFault> {
    let blocks = pem::blocks(text)?;
    if blocks.is_empty() {
        return Err(if text.trim_start().starts_with('{') { KeyFault::Jwk } else { bare(text) });
    }
    let is_key = |block: &&Block| block.label.ends_with("PRIVATE KEY");
    let several = blocks.iter().filter(is_key).count();
    if several > 1 {
        return Err(KeyFault::Several(several));
    }
    let labels: Vec<String> = blocks.iter().map(|block| block.label.clone()).collect();
    let Some(key) = blocks.into_iter().find(|block| is_key(&block)) else {
        return Err(instead(&labels));
    };
    match key.label.as_str() {
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(key.der.into())),
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(key.der.into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(key.der.into())),
        "OPENSSH PRIVATE KEY" => Err(KeyFault::OpenSsh),
        _ => Err(KeyFault::Other(key.label)),
    }
}

/// What there is where no private key is.
fn instead(labels: &[String]) -> KeyFault {
    let any = |part: &str| labels.iter().any(|label| label.ends_with(part));
    if any("PUBLIC KEY") {
        KeyFault::Public
    } else if any("CERTIFICATE") {
        KeyFault::Certificate
    } else {
        labels.first().map_or(KeyFault::None, |label| KeyFault::Other(label.clone()))
    }
}

/// What a text without any block is.
fn bare(text: &str) -> KeyFault {
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let engines = [&STANDARD, &URL_SAFE].map(|alphabet| GeneralPurpose::new(alphabet, LENIENT));
    let decoded = engines.iter().find_map(|engine| engine.decode(&packed).ok());
    match decoded.as_deref().map(<[u8]>::trim_ascii_start) {
        Some([b'{', ..]) => KeyFault::Base64("a JWK"),
        Some(inner) if inner.starts_with(b"-----BEGIN ") => KeyFault::Base64("PEM"),
        Some(inner) if Foreign::of_der(inner).is_some() => KeyFault::Bare,
        Some(_) | None => KeyFault::None,
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\nMAMCAQA=\n-----END {label}-----\n")
    }

    #[test]
    fn what_is_no_key_for_tls_is_named() {
        let key = block("PRIVATE KEY");
        for (text, fault) in [
            ("no key".to_owned(), KeyFault::None),
            (String::new(), KeyFault::None),
            (block("PUBLIC KEY"), KeyFault::Public),
            (block("RSA PUBLIC KEY"), KeyFault::Public),
            (block("CERTIFICATE"), KeyFault::Certificate),
            (block("EC PARAMETERS"), KeyFault::Other("EC PARAMETERS".to_owned())),
            (block("OPENSSH PRIVATE KEY"), KeyFault::OpenSsh),
            (block("DSA PRIVATE KEY"), KeyFault::Other("DSA PRIVATE KEY".to_owned())),
            (key.repeat(2), KeyFault::Several(2)),
            ("{\"kty\":\"EC\"}".to_owned(), KeyFault::Jwk),
            (BASE64_STANDARD.encode("{\"kty\":\"RSA\"}"), KeyFault::Base64("a JWK")),
            (BASE64_STANDARD.encode(&key), KeyFault::Base64("PEM")),
            ("MAMCAQA=\n".to_owned(), KeyFault::Bare),
        ] {
            assert_eq!(private_key(&text).unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn a_key_may_stand_beside_its_parameters_and_its_certificate() {
        let text = [block("EC PARAMETERS"), block("EC PRIVATE KEY"), block("CERTIFICATE")].concat();
        assert!(matches!(private_key(&text).unwrap(), PrivateKeyDer::Sec1(_)));
    }
}
