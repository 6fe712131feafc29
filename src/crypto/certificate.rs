//! What is read of an X.509 certificate (RFC 5280 section 4.1): its days and its key.
//!
//! Owns the reading only. Whether it is to be trusted is TLS's and Maskinporten's to decide.

use super::der::{Element, Reader, SEQUENCE};
use crate::clock::Timestamp;

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The first moment of its life.
    pub not_before: Timestamp,
    /// The last moment of its life.
    pub not_after: Timestamp,
    /// `SubjectPublicKeyInfo`, DER.
    pub public_key_info: Vec<u8>,
}

/// Who vouches for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Counted from 1, as people do.
    pub version: u8,
    /// The distinguished name of who vouches, DER.
    pub issuer: Vec<u8>,
    /// The distinguished name of whom it is about, DER.
    pub subject: Vec<u8>,
}

impl Link {
    /// Reads DER; `None` if it is not well-formed.
    pub fn read(der: &[u8]) -> Option<Self> {
        let body = Reader(der).next()?.inner().next()?;
        let mut fields = body.inner().peekable();
        let version = match fields.next_if(|field| field.tag == VERSION) {
            None => 1,
            Some(version) => version.inner().next()?.content.last()?.saturating_add(1),
        };
        // Serial number, signature algorithm.
        let issuer = fields.nth(2)?.whole.to_vec();
        // Validity.
        let subject = fields.nth(1)?.whole.to_vec();
        Some(Self { version, issuer, subject })
    }

    /// Whether it vouches for itself.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

impl Certificate {
    /// Reads DER; `None` if it is not well-formed.
    pub fn read(der: &[u8]) -> Option<Self> {
        let certificate = Reader(der).next()?;
        let body = certificate.inner().next()?;
        let mut fields = body.inner().peekable();
        fields.next_if(|field| field.tag == VERSION);
        // Serial number, signature algorithm, issuer.
        let validity = fields.nth(3)?;
        let _subject = fields.next()?;
        let key = fields.next().filter(|field| field.tag == SEQUENCE)?;
        let mut times = validity.inner();
        Some(Self {
            not_before: time(times.next()?)?,
            not_after: time(times.next()?)?,
            public_key_info: key.whole.to_vec(),
        })
    }
}

/// `YYMMDDHHMMSSZ`, years of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(element: Element<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(element.content).ok()?;
    let text = match element.tag {
        UTC_TIME if text.starts_with(|c| c >= '5') => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    // What ended before 1970 has ended.
    Some(Timestamp::try_from(zoned.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, date_time_ymd};

    use super::*;

    fn made(from: i32, to: i32) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 2);
        params.not_after = date_time_ymd(to, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (Certificate::read(certificate.der()).unwrap(), key)
    }

    #[test]
    fn its_days_and_its_key_are_read() {
        for (from, to) in [(1975, 2049), (2026, 2050), (1999, 2100)] {
            let (certificate, key) = made(from, to);
            assert_eq!(certificate.not_before.to_string(), format!("{from}-01-02T00:00:00Z"));
            assert_eq!(certificate.not_after.to_string(), format!("{to}-12-31T00:00:00Z"));
            assert_eq!(certificate.public_key_info, key.subject_public_key_info());
        }
    }

    #[test]
    fn who_vouches_for_whom_is_read() {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let link = Link::read(made.der()).unwrap();
        assert!(link.is_self_issued() && link.version == 3);
        assert_eq!(link.subject.first(), Some(&SEQUENCE));
    }

    proptest! {
        #[test]
        fn a_broken_certificate_never_panics(at in 0usize..400, by: u8, cut in 0usize..400) {
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let mut der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            der.truncate(cut.max(1));
            let at = at.min(der.len() - 1);
            der[at] = by;
            prop_assert!(Link::read(&der).is_none_or(|read| !read.subject.is_empty()));
            prop_assert!(Certificate::read(&der).is_none_or(|read| !read.public_key_info.is_empty()));
        }
    }
}
