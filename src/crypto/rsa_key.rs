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
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{
    der::{self, INTEGER, Reader},
    private_key::{KeyFault, private_key},
};

/// Shorter keys are not signed with.
const LEAST_BITS: usize = 2048;

/// An RSA private key.
pub struct RsaKey {
    pair: KeyPair,
    /// As its JWK names it.
    id: Option<String>,
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKey").field("bits", &self.bits()).finish_non_exhaustive()
    }
}

/// What tells a JWK from other JSON, before it is read.
#[derive(Deserialize)]
struct Form {
    kty: Option<String>,
    keys: Option<serde::de::IgnoredAny>,
    n: Option<serde::de::IgnoredAny>,
    e: Option<serde::de::IgnoredAny>,
    d: Option<serde::de::IgnoredAny>,
    p: Option<serde::de::IgnoredAny>,
    q: Option<serde::de::IgnoredAny>,
    dp: Option<serde::de::IgnoredAny>,
    dq: Option<serde::de::IgnoredAny>,
    qi: Option<serde::de::IgnoredAny>,
    oth: Option<serde::de::IgnoredAny>,
}

impl Form {
    /// The members that it lacks; one that is null is not there.
    fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("n", &self.n),
            ("e", &self.e),
            ("d", &self.d),
            ("p", &self.p),
            ("q", &self.q),
            ("dp", &self.dp),
            ("dq", &self.dq),
            ("qi", &self.qi),
        ];
        all.iter().filter(|(_, member)| member.is_none()).map(|(name, _)| *name).collect()
    }
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    n: Option<Number>,
    e: Option<Number>,
    d: Option<Number>,
    p: Option<Number>,
    q: Option<Number>,
    dp: Option<Number>,
    dq: Option<Number>,
    qi: Option<Number>,
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
            return jwk(text);
        }
        match private_key(text)? {
            PrivateKeyDer::Pkcs1(key) => pkcs1(key.secret_pkcs1_der(), None),
            PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(_) | _ => Err(KeyFault::NotRsa("EC".to_owned())),
        }
    }

    /// Signs once, so that a key that cannot is found when it is read.
    fn usable(pair: Option<KeyPair>, id: Option<String>) -> Result<Self, KeyFault> {
        let key = Self { pair: pair.ok_or(KeyFault::Unusable)?, id };
        key.sign(b"").map(|_| key).ok_or(KeyFault::Unusable)
    }

    /// What its JWK calls it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The size of its modulus.
    pub fn bits(&self) -> usize {
        self.pair.public_modulus_len() * 8
    }

    /// Its public half as a certificate has it: `SubjectPublicKeyInfo`, DER.
    pub fn public_key_info(&self) -> Option<Vec<u8>> {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().ok()?;
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
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }
}

fn jwk(text: &str) -> Result<RsaKey, KeyFault> {
    let form: Form = serde_json::from_str(text).map_err(|_| KeyFault::NotJson)?;
    match form.kty.as_deref() {
        None if form.keys.is_some() => return Err(KeyFault::JwkSet),
        None => return Err(KeyFault::NotJson),
        Some("RSA") => {}
        Some(kind) => return Err(KeyFault::NotRsa(kind.escape_debug().take(20).collect())),
    }
    let missing = form.missing();
    if missing.contains(&"d") && !missing.contains(&"n") && !missing.contains(&"e") {
        return Err(KeyFault::PublicJwk);
    }
    if !missing.is_empty() {
        return Err(KeyFault::Incomplete(missing.join(", ")));
    }
    if form.oth.is_some() {
        // Nobody has them, and PKCS#1 would need another version.
        return Err(KeyFault::NotRsa("more than two primes".to_owned()));
    }
    let mut jwk: Jwk = serde_json::from_str(text).map_err(|_| KeyFault::NotJson)?;
    let id = jwk.kid.take().filter(|id| !id.is_empty());
    let der = jwk.pkcs1().ok_or(KeyFault::NotJson)?;
    pkcs1(der.expose_secret(), id)
}

fn pkcs8(der: &[u8]) -> Result<RsaKey, KeyFault> {
    /// 1.2.840.113549.1.1.1
    const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    /// 1.2.840.10045.2.1
    const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
    let mut fields = Reader(der).next().ok_or(KeyFault::Unusable)?.inner().skip(1);
    let algorithm = fields.next().and_then(|field| field.inner().next());
    match algorithm.map(|oid| oid.content) {
        Some(RSA) => {}
        Some(EC) => return Err(KeyFault::NotRsa("EC".to_owned())),
        Some(_) => return Err(KeyFault::NotRsa("another algorithm".to_owned())),
        None => return Err(KeyFault::Unusable),
    }
    small(fields.next().map(|key| key.content).unwrap_or_default())?;
    RsaKey::usable(KeyPair::from_pkcs8(der).ok(), None)
}

fn pkcs1(der: &[u8], id: Option<String>) -> Result<RsaKey, KeyFault> {
    small(der)?;
    RsaKey::usable(KeyPair::from_der(der).ok(), id)
}

/// The library does not say that this is what it refuses.
fn small(pkcs1: &[u8]) -> Result<(), KeyFault> {
    let key = Reader(pkcs1).next();
    let modulus = key.and_then(|key| key.inner().nth(1)).filter(|number| number.tag == INTEGER);
    let bits = modulus.map_or(LEAST_BITS, |number| der::bits(number.content));
    if bits < LEAST_BITS { Err(KeyFault::Small(bits)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
