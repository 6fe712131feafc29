//! A throw-away certificate authority and client keys, for the demo, the stand-in and tests.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::{
    self,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::options::EnterpriseCertificate;

/// A certificate authority that lives as long as the process.
#[derive(Debug)]
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new one, with a new key.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "brevdue throw-away CA");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Its certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for `names` (DNS names and IP addresses): the chain and its key, PEM.
    pub fn issue(&self, names: &[&str]) -> anyhow::Result<(String, String)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "brevdue throw-away server");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok((format!("{}{}", leaf.pem(), self.pem), key.serialize_pem()))
    }

    /// A TLS server for `names`.
    pub fn server_config(&self, names: &[&str]) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let (chain, key) = self.issue(names)?;
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| anyhow!("the issued chain cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| anyhow!("the issued key cannot be read: {error}"))?;
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// An RSA key for a Maskinporten client.
pub struct RsaKey {
    /// PKCS#8, PEM.
    pub private_pem: String,
    /// `PUBLIC KEY`, PEM.
    pub public_pem: String,
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RsaKey")
    }
}

/// A new RSA key of 2048 bits.
pub fn client_key() -> anyhow::Result<RsaKey> {
    let fail = |_| anyhow!("cannot make an RSA key");
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(fail)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(fail)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(fail)?;
    Ok(RsaKey {
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    })
}

/// An enterprise certificate of this key: the leaf, and an authority of its own after it.
pub fn enterprise_certificate(key: &RsaKey) -> anyhow::Result<EnterpriseCertificate> {
    let ca = Ca::new()?;
    let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&key.private_pem, &rcgen::PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "brevdue throw-away enterprise");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = params.signed_by(&pair, &ca.issuer)?;
    let chain = format!("{}{}", leaf.pem(), ca.pem);
    Ok(EnterpriseCertificate { chain, public: key.public_pem.clone() })
}

/// RFC 7468 text of `der`.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::auth::tokens::PublicKey;

    #[test]
    fn a_client_key_is_read_back_by_the_stand_in_and_by_jwt_libraries() {
        let key = client_key().unwrap();
        assert!(PublicKey::read(&key.public_pem).is_ok());
        assert!(jsonwebtoken::EncodingKey::from_rsa_pem(key.private_pem.as_bytes()).is_ok());
        assert!(PublicKey::read(&key.private_pem).is_err());
    }

    #[test]
    fn an_issued_certificate_makes_a_tls_server() {
        let ca = Ca::new().unwrap();
        assert!(ca.server_config(&["localhost", "127.0.0.1", "::1"]).is_ok());
        let (chain, _) = ca.issue(&["localhost"]).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
}
