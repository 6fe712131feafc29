//! What a file is that is not the text that was expected. Owns how formats are told by their first
//! bytes, and what to do about each. Pure; never repeats what is in a file.

use std::fmt;

/// A format that brevdue does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Each character in two or four bytes.
    Utf16,
    /// A key and certificates in one file, under a password (RFC 7292).
    Pkcs12,
    /// A private key in DER, under a password (RFC 5958).
    EncryptedDer,
    /// A private key in DER.
    KeyDer,
    /// Certificates in a message without content (RFC 2315).
    Pkcs7,
    /// A certificate in DER.
    CertificateDer,
    /// Java's own.
    JavaKeystore,
    /// gzip, zip and the like.
    Compressed,
    /// A word processor's.
    RichText,
    /// A page that came instead of a file.
    WebPage,
    /// Ansible Vault's, age's or SOPS's.
    Encrypted,
    /// Bytes that no text has.
    Binary,
    /// Another encoding.
    NotUtf8 {
        /// Where, from 1.
        line: usize,
    },
}

impl Foreign {
    /// What this is, if it is none of ours.
    pub(super) fn recognized(bytes: &[u8]) -> Option<Self> {
        const BEGINNINGS: [(&[u8], Foreign); 13] = [
            (b"\xff\xfe", Foreign::Utf16),
            (b"\xfe\xff", Foreign::Utf16),
            (b"\x00\x00\xfe\xff", Foreign::Utf16),
            (b"\xfe\xed\xfe\xed", Foreign::JavaKeystore),
            (b"\xce\xce\xce\xce", Foreign::JavaKeystore),
            (b"\x1f\x8b", Foreign::Compressed),
            (b"PK\x03\x04", Foreign::Compressed),
            (b"{\\rtf", Foreign::RichText),
            (b"<!DOCTYPE", Foreign::WebPage),
            (b"<html", Foreign::WebPage),
            (b"$ANSIBLE_VAULT;", Foreign::Encrypted),
            (b"age-encryption.org/", Foreign::Encrypted),
            (b"-----BEGIN AGE ENCRYPTED", Foreign::Encrypted),
        ];
        let begins = |(start, _): &&(&[u8], Self)| bytes.starts_with(start);
        if let Some((_, foreign)) = BEGINNINGS.iter().find(begins) {
            return Some(*foreign);
        }
        // Latin letters, with the other half of each zero.
        if let [a, b, c, d, ..] = bytes
            && ((*a != 0 && *b == 0 && *c != 0 && *d == 0)
                || (*a == 0 && *b != 0 && *c == 0 && *d != 0))
        {
            return Some(Self::Utf16);
        }
        if let Some(foreign) = der(bytes) {
            return Some(foreign);
        }
        bytes.contains(&0).then_some(Self::Binary)
    }

    /// What DER is, if it is of keys or certificates.
    pub fn of_der(bytes: &[u8]) -> Option<Self> {
        der(bytes)
    }
}

/// A SEQUENCE that is as long as the file, by what it begins with.
fn der(bytes: &[u8]) -> Option<Foreign> {
    const SEQUENCE: u8 = 0x30;
    const VERSION_3: [u8; 3] = [2, 1, 3];
    const VERSION_0: [u8; 3] = [2, 1, 0];
    const VERSION_1: [u8; 3] = [2, 1, 1];
    const OF_PKCS_5: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05";
    const OF_PKCS_12: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c";
    const OF_PKCS_7: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07";
    let content = inner(bytes, SEQUENCE)?;
    if content.starts_with(&VERSION_3) {
        return Some(Foreign::Pkcs12);
    }
    if content.starts_with(&VERSION_0) || content.starts_with(&VERSION_1) {
        return Some(Foreign::KeyDer);
    }
    if let [6, _, oid @ ..] = content {
        return oid.starts_with(OF_PKCS_7).then_some(Foreign::Pkcs7);
    }
    let first = inner(content, SEQUENCE)?;
    match first {
        [6, _, oid @ ..] if oid.starts_with(OF_PKCS_5) || oid.starts_with(OF_PKCS_12) => {
            Some(Foreign::EncryptedDer)
        }
        _ => Some(Foreign::CertificateDer),
    }
}

/// What stands in the element that a DER text begins with.
fn inner(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let [first, length, rest @ ..] = bytes else { return None };
    if *first != tag {
        return None;
    }
    match length {
        // Also BER's length that is told by an end only, as PKCS#12 may have it.
        0..=0x80 => Some(rest),
        0x81..=0x84 => rest.get(usize::from(length & 0x7f)..),
        _ => None,
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "is UTF-16 text: save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)",
            Self::Pkcs12 => {
                "is PKCS#12 (.p12, .pfx), which has a password: take out what is in it \
                 (openssl pkcs12 -in FILE -nodes -out NEW.pem), and name the new file"
            }
            Self::EncryptedDer => {
                "is an encrypted private key in DER, and nobody is there to type its password: \
                 openssl pkey -inform DER -in FILE -out NEW.pem"
            }
            Self::KeyDer => {
                "is a private key in DER: make PEM of it (openssl pkey -inform DER -in FILE -out \
                 NEW.pem)"
            }
            Self::Pkcs7 => {
                "is PKCS#7 (.p7b): make PEM of it (openssl pkcs7 -inform DER -in FILE \
                 -print_certs -out NEW.pem)"
            }
            Self::CertificateDer => {
                "is a certificate in DER: make PEM of it (openssl x509 -inform DER -in FILE -out \
                 NEW.pem)"
            }
            Self::JavaKeystore => {
                "is a Java keystore: make PKCS#12 of it (keytool -importkeystore), and PEM of that"
            }
            Self::Compressed => "is a compressed file: unpack it, and name what was in it",
            Self::RichText => "is RTF, a word processor's format: save it as plain text",
            Self::WebPage => "is a web page, not the file that was to be fetched: fetch it anew",
            Self::Encrypted => {
                "is encrypted by a secret manager: name the file that it is decrypted into"
            }
            Self::Binary => "is not text, it has NUL bytes: see that it is the right file",
            Self::NotUtf8 { line } => {
                return write!(
                    f,
                    "is not UTF-8 text, first on line {line}: save it as UTF-8 (iconv -f LATIN1 \
                     -t UTF-8 FILE > NEW)"
                );
            }
        })
    }
}
