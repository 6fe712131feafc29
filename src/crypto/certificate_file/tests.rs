use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::crypto::der;

fn made() -> String {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn block(label: &str, der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// The same certificate without its version, which makes it one of version 1 with a wrong signature.
fn version_1(pem: &str) -> String {
    let der = pem::blocks(pem).unwrap().remove(0).der;
    let whole = der::Reader(&der).next().unwrap();
    let mut parts: Vec<Vec<u8>> = whole.inner().map(|part| part.whole.to_vec()).collect();
    let body = der::Reader(&parts[0]).next().unwrap();
    let fields: Vec<Vec<u8>> = body.inner().map(|field| field.whole.to_vec()).collect();
    // Without the version before and the extensions after the rest.
    parts[0] = der::sequence(&fields[1..fields.len() - 1]);
    block("CERTIFICATE", &der::sequence(&parts))
}

#[test]
fn every_certificate_is_read_and_what_else_servers_keep_beside_them_is_passed_over() {
    let key = block("PRIVATE KEY", b"\x30\x03\x02\x01\x00");
    let text = [key, made(), block("EC PARAMETERS", b"\x06\x01\x00"), made()].concat();
    assert_eq!(chain_of(&text).unwrap().len(), 2);
}

#[test]
fn one_that_cannot_be_read_is_told_with_its_place() {
    let good = made();
    let lines = good.lines().count();
    for (second, words) in [
        (block("CERTIFICATE", b"\x30\x03\x02\x01\x00"), "damaged"),
        (block("CERTIFICATE", b"hunter2"), "damaged"),
        (version_1(&good), "version 1"),
    ] {
        let fault = chain_of(&format!("{good}{second}")).unwrap_err();
        assert!(
            matches!(&fault, CertificateFault::Unreadable { line, number: 2, of: 2, why }
                if *line == lines + 1 && why.contains(words)),
            "{fault}"
        );
    }
    // An authority of version 1 is one: the oldest are.
    assert!(certificates(&version_1(&good), authority_fault).is_ok());
}

#[test]
fn what_is_no_certificate_is_named() {
    let joined = format!("{}{}", made().trim_end(), made());
    assert!(matches!(chain_of(&joined), Err(CertificateFault::Pem(PemFault::Joined { .. }))));
    assert_eq!(chain_of("hunter2").unwrap_err(), CertificateFault::None);
    assert_eq!(chain_of(&block("PRIVATE KEY", b"x")).unwrap_err(), CertificateFault::Key);
    for (label, words) in [
        ("CERTIFICATE REQUEST", "answered with"),
        ("TRUSTED CERTIFICATE", "openssl x509"),
        ("PKCS7", "-print_certs"),
        ("X509 CRL", "take it out"),
    ] {
        let told = chain_of(&format!("{}{}", made(), block(label, b"x"))).unwrap_err().to_string();
        assert!(told.contains(label) && told.contains(words), "{told}");
    }
}

#[test]
fn a_bundle_is_no_chain_but_may_be_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.pem");
    std::fs::write(&path, made().repeat(11)).unwrap();
    assert!(chain(&path).unwrap_err().to_string().contains("11 certificates"));
    assert_eq!(authorities(&path).unwrap().len(), 11);
}
