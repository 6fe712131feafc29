//! JWTs as the two issuers make and read them: RS256 under keys made at start, and the RSA keys
//! clients have registered. Owns no rule about claims.

use anyhow::{Context, anyhow};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RsaParameters, RsaPublicKeyComponents,
        UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Map, Value, json};
use tokio_rustls::rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use uuid::Uuid;

use crate::simulator::ca::pem;

/// A token taken apart; nothing about it has been checked.
pub(in crate::simulator) struct Jwt<'t> {
    pub(in crate::simulator) header: Map<String, Value>,
    pub(in crate::simulator) claims: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jwt<'t> {
    /// Three parts of base64url, the first two JSON objects.
    pub(in crate::simulator) fn parse(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |part: &str| {
            serde_json::from_slice::<Map<String, Value>>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// A header's text.
    pub(in crate::simulator) fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A claim's text.
    pub(in crate::simulator) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// A claim's whole number.
    pub(in crate::simulator) fn number(&self, name: &str) -> Option<u64> {
        self.claims.get(name)?.as_u64()
    }
}

/// Maskinporten takes these three algorithms and no others.
fn parameters(alg: &str) -> Option<&'static RsaParameters> {
    match alg {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

/// Whether `alg` is one of those that are accepted.
pub(in crate::simulator) fn accepted(alg: &str) -> bool {
    parameters(alg).is_some()
}

/// A client's registered public key.
#[derive(Debug, Clone)]
pub(in crate::simulator) enum PublicKey {
    Der(Vec<u8>),
    Components { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    /// Reads PEM or a JWK.
    pub(in crate::simulator) fn read(text: &str) -> anyhow::Result<Self> {
        if text.trim_start().starts_with('{') {
            let jwk: Value = serde_json::from_str(text).context("not a JWK")?;
            let part = |name: &str| {
                let text = jwk.get(name).and_then(Value::as_str).unwrap_or_default();
                URL_SAFE_NO_PAD.decode(text).with_context(|| format!("a JWK without {name}"))
            };
            return Ok(Self::Components { n: part("n")?, e: part("e")? });
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let der = der.map_err(|error| anyhow!("not a public key in PEM: {error}"))?;
        Ok(Self::Der(der.as_ref().to_vec()))
    }

    /// Whether this key signed `jwt`.
    pub(in crate::simulator) fn signed(&self, jwt: &Jwt<'_>) -> bool {
        let Some(parameters) = jwt.header("alg").and_then(parameters) else { return false };
        let message = jwt.signed.as_bytes();
        match self {
            Self::Der(der) => {
                UnparsedPublicKey::new(parameters, der).verify(message, &jwt.signature).is_ok()
            }
            Self::Components { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, &jwt.signature).is_ok()
            }
        }
    }
}

/// An issuer's key, made at start.
pub(in crate::simulator) struct SigningKey {
    id: String,
    pair: KeyPair,
    jwk: Value,
}

impl SigningKey {
    /// A new key of 2048 bits.
    pub(in crate::simulator) fn generate() -> anyhow::Result<Self> {
        let fail = |_| anyhow!("cannot make an RSA key");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(fail)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(fail)?;
        let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", der.as_ref()).as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256)?;
        let id = Uuid::new_v4().simple().to_string();
        jwk.common.key_id = Some(id.clone());
        Ok(Self { id, pair, jwk: serde_json::to_value(jwk)? })
    }

    /// The JWK set that vouches for its tokens.
    pub(in crate::simulator) fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }

    /// A signed token.
    pub(in crate::simulator) fn sign(&self, claims: &Map<String, Value>) -> Option<String> {
        let header = json!({ "alg": "RS256", "kid": self.id, "typ": "JWT" }).to_string();
        let claims = serde_json::to_vec(claims).ok()?;
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The token taken apart, if this key signed it and it names this key.
    pub(in crate::simulator) fn read<'t>(&self, token: &'t str) -> Option<Jwt<'t>> {
        let jwt = Jwt::parse(token)?;
        let ours = jwt.header("alg") == Some("RS256") && jwt.header("kid") == Some(&self.id);
        let key = PublicKey::Der(self.pair.public_key().as_ref().to_vec());
        (ours && key.signed(&jwt)).then_some(jwt)
    }
}
