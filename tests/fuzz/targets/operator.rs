//! Files and settings of the operator's.

use std::{collections::BTreeMap, path::Path};

use brevdue::{
    config::{Config, error::ConfigError},
    crypto::{
        certificate::Certificate,
        der::{Element, Reader},
        pem,
        rsa_key::RsaKey,
    },
    network::Network,
};
use secrecy::SecretString;
use tokio_rustls::rustls::{pki_types::CertificateDer, server::ParsedCertificate};

/// A configuration's file, then, after a NUL, the environment: lines of `NAME=value`.
pub(crate) fn config(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let (file, rest) = text.split_once('\0').unwrap_or((text, ""));
    let environment: BTreeMap<String, String> = rest
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let read = |file: &str| Config::from_toml(file, Path::new("/etc/brevdue"), &environment);
    match read(file) {
        Ok(_) => {
            let unknown = read(&format!("no_such_setting = 1\n{file}"));
            let told = |fault: &ConfigError| fault.to_string().contains("no_such_setting");
            assert!(unknown.is_err_and(|fault| told(&fault)), "an unknown key is let through");
            true
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty(), "a fault that tells nothing");
            false
        }
    }
}

/// An address or a network.
pub(crate) fn network(input: &[u8]) -> bool {
    let Some(network) = str::from_utf8(input).ok().and_then(|text| text.parse::<Network>().ok())
    else {
        return false;
    };
    let written = network.to_string();
    assert_eq!(written.parse(), Ok(network), "is another, again");
    let (address, prefix) = written.split_once('/').expect("an address and a prefix");
    let address: std::net::IpAddr = address.parse().expect("an address");
    let prefix: u32 = prefix.parse().expect("a number");
    assert!(network.contains(address), "is not in itself");
    let (bits, number) = match address {
        std::net::IpAddr::V4(ip) => (32, u128::from(u32::from(ip)) << 96),
        std::net::IpAddr::V6(ip) => (128, u128::from(ip)),
    };
    for bit in 0..bits {
        let other = number ^ (1 << (127 - bit));
        let other = match u32::try_from(other >> 96) {
            Ok(four) if bits == 32 => std::net::Ipv4Addr::from(four).into(),
            _ => std::net::IpAddr::from(std::net::Ipv6Addr::from(other)),
        };
        // An IPv6 address that stands for an IPv4 one is one.
        if other.to_canonical().is_ipv4() == address.is_ipv4() {
            assert_eq!(network.contains(other), bit >= prefix, "{network} and {other}");
        }
    }
    true
}

/// A private key's file.
pub(crate) fn key(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    match RsaKey::read(&SecretString::from(text)) {
        Err(_) => false,
        Ok(key) => {
            assert!((2048..=8192).contains(&key.bits()), "a key of another size");
            assert!(key.public_key_info().is_some(), "a key without a public half");
            true
        }
    }
}

/// A text of PEM: each mark is a block's, or the text is refused.
pub(crate) fn pem(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let Ok(blocks) = pem::blocks(text) else { return false };
    let marks = text.matches("-----BEGIN ").count();
    assert_eq!(blocks.len(), marks, "a block was passed over");
    assert_eq!(blocks.len(), text.matches("-----END ").count(), "an end was passed over");
    assert!(blocks.iter().all(|block| !block.der.is_empty()), "a block without content");
    !blocks.is_empty()
}

/// A certificate, DER; the second reader is the one that TLS uses.
pub(crate) fn certificate(input: &[u8]) -> bool {
    elements(Reader(input), 0);
    let Some(read) = Certificate::read(input) else { return false };
    let der = CertificateDer::from(input);
    if let Ok(other) = ParsedCertificate::try_from(&der) {
        let other = other.subject_public_key_info();
        assert_eq!(read.public_key_info, other.as_ref(), "another key than TLS reads");
    }
    true
}

fn elements(reader: Reader<'_>, depth: usize) {
    let whole = reader.0.len();
    let mut read = 0;
    for Element { content, whole, .. } in reader {
        assert!(whole.ends_with(content) && whole.len() >= content.len() + 2, "not its own");
        read += whole.len();
        if depth < 8 {
            elements(Reader(content), depth + 1);
        }
    }
    assert!(read <= whole, "more than there is");
}
