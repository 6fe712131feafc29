//! An RSA private key as people keep it (PEM or JWK), and what it is for: signing JWTs.
//!
//! Owns the reading of every form. A JWK (RFC 7518 section 6.3) becomes PKCS#1 first, which is
//! what the cryptographic library reads.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use super::der;

/// Why a text is no key. Never has anything of the text in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither PEM nor JSON, encrypted, a public key, or of another kind.
    #[error(
        "has no unencrypted RSA private key: PEM (PKCS#1 or PKCS#8) or a JWK with \"kty\": \"RSA\""
    )]
    None,
    /// A JWK without its private part, or without the numbers that make it quick.
    #[error("is a JWK that lacks one of n, e, d, p, q, dp, dq, qi")]
    Incomplete,
    /// The library refuses it.
    #[error("has an RSA key that cannot sign: it is damaged, or not of 2048 to 8192 bits")]
    Unusable,
}

/// An RSA private key.
pub struct RsaKey(KeyPair);

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKey").field("bits", &self.bits()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    n: Option<Number>,
    e: Option<Number>,
    d: Option<Number>,
    p: Option<Number>,
    q: Option<Number>,
    dp: Option<Number>,
    dq: Option<Number>,
    qi: Option<Number>,
    /// Further primes; nobody has them, and PKCS#1 would need another version.
    oth: Option<serde::de::IgnoredAny>,
}

/// `Base64urlUInt`; some writers pad it.
struct Number(SecretSlice<u8>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::from(String::deserialize(deserializer)?);
        let bytes = URL_SAFE_NO_PAD.decode(text.expose_secret().trim_end_matches('='));
        // The library's own message would quote what stands there.
        let bytes = bytes.map_err(|_| serde::de::Error::custom("not base64url"))?;
        Ok(Self(SecretSlice::from(bytes)))
    }
}

impl Jwk {
    /// `RSAPrivateKey` of RFC 8017 appendix A.1.2.
    fn pkcs1(&self) -> Option<SecretSlice<u8>> {
        if self.oth.is_some() {
            return None;
        }
        let all = [&self.n, &self.e, &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi];
        let mut numbers = vec![der::unsigned(&[0])];
        for number in all {
            numbers.push(der::unsigned(number.as_ref()?.0.expose_secret()));
        }
        Some(SecretSlice::from(der::sequence(&numbers)))
    }
}

impl RsaKey {
    /// Reads PEM or a JWK.
    pub fn read(text: &SecretString) -> Result<Self, KeyFault> {
        let text = text.expose_secret();
        if text.trim_start().starts_with('{') {
            let jwk: Jwk = serde_json::from_str(text).map_err(|_| KeyFault::None)?;
            if jwk.kty != "RSA" {
                return Err(KeyFault::None);
            }
            let der = jwk.pkcs1().ok_or(KeyFault::Incomplete)?;
            return Self::usable(KeyPair::from_der(der.expose_secret()).ok());
        }
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(key)) => {
                Self::usable(KeyPair::from_der(key.secret_pkcs1_der()).ok())
            }
            Ok(PrivateKeyDer::Pkcs8(key)) => match KeyPair::from_pkcs8(key.secret_pkcs8_der()) {
                Ok(pair) => Self::usable(Some(pair)),
                Err(_) => Err(KeyFault::None),
            },
            Ok(_) | Err(_) => Err(KeyFault::None),
        }
    }

    /// Signs once, so that a key that cannot is found when it is read.
    fn usable(pair: Option<KeyPair>) -> Result<Self, KeyFault> {
        let key = Self(pair.ok_or(KeyFault::Unusable)?);
        key.sign(b"").map(|_| key).ok_or(KeyFault::Unusable)
    }

    /// The size of its modulus.
    pub fn bits(&self) -> usize {
        self.0.public_modulus_len() * 8
    }

    /// Its public half as a certificate has it: `SubjectPublicKeyInfo`, DER.
    pub fn public_key_info(&self) -> Option<Vec<u8>> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().ok()?;
        Some(der.as_ref().to_vec())
    }

    /// A JWT under RS256 (RFC 7515); the header must say so. `None` if it cannot be signed.
    pub fn jwt(&self, header: &impl Serialize, claims: &impl Serialize) -> Option<String> {
        let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let header = part(serde_json::to_vec(header).ok()?);
        let claims = part(serde_json::to_vec(claims).ok()?);
        let signed = format!("{header}.{claims}");
        let signature = self.sign(signed.as_bytes())?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }
}

#[cfg(test)]
mod tests;
