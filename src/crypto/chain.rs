//! What those to whom a chain of certificates is shown will make of it: names, order, dates, trust.
//!
//! Owns the warnings. Nothing here keeps a chain from being used: whether a certificate that ends
//! tomorrow is better than none is for an operator to decide. Pure, but for the system's authorities.

use std::time::Duration;

use tokio_rustls::rustls::{
    self, CertificateError, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::certificate::{Certificate, Link};
use crate::clock::Timestamp;

/// A certificate with less left than this, or than a sixth of its life, is late to be renewed.
const LATE: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// Who is to trust a chain, and under which name.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    /// The host of the public URL, if it is known.
    pub host: Option<String>,
    /// Whom clients trust beside the system's authorities.
    pub more: Vec<CertificateDer<'static>>,
}

impl Audience {
    /// Read anew each time: this is asked for once in months.
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        // What the system has and TLS cannot read is not trusted by others either.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.more.iter().cloned());
        roots
    }
}

/// What clients will object to in a server's chain.
pub fn of_server(
    chain: &[CertificateDer<'static>],
    audience: &Audience,
    now: Timestamp,
) -> Vec<String> {
    let mut told = of_any(chain, now);
    let Some((leaf, above)) = chain.split_first() else { return told };
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else { return told };
    told.extend(audience.host.as_deref().and_then(|host| name(&parsed, host)));
    let self_issued = Link::read(leaf).is_some_and(|link| link.is_self_issued());
    told.extend(trust(&parsed, self_issued, above, (&audience.roots(), now)));
    told
}

/// What anyone will object to: dates and order.
pub fn of_any(chain: &[CertificateDer<'static>], now: Timestamp) -> Vec<String> {
    let mut told = ages(chain, now);
    told.extend(order(chain));
    told
}

/// Those that have ended, have not begun, or are late to be renewed.
pub fn ages(certificates: &[CertificateDer<'static>], now: Timestamp) -> Vec<String> {
    let read = certificates.iter().filter_map(|der| Certificate::read(der));
    (1..).zip(read).filter_map(|(number, one)| dates(number, &one, now)).collect()
}

fn which(number: usize) -> String {
    if number == 1 {
        "the certificate".to_owned()
    } else {
        format!("certificate {number} of the file")
    }
}

fn dates(number: usize, one: &Certificate, now: Timestamp) -> Option<String> {
    let who = which(number);
    let (left, life) = (one.not_after.since(now), one.not_after.since(one.not_before));
    if now > one.not_after {
        Some(format!("{who} ended on {}: renew it; SIGHUP reads it anew", one.not_after))
    } else if now < one.not_before {
        Some(format!("{who} begins only on {}: see that the clock is right", one.not_before))
    } else if number == 1 && left < LATE.min(life / 6) {
        let days = left.as_secs() / DAY;
        Some(format!("{who} ends on {}, in {days} days: renew it", one.not_after))
    } else {
        None
    }
}

/// Each is to be followed by the one that vouches for it.
fn order(chain: &[CertificateDer<'static>]) -> Option<String> {
    let links: Vec<_> = chain.iter().filter_map(|der| Link::read(der)).collect();
    let broken = links.windows(2).position(|pair| match pair {
        [one, next] => one.issuer != next.subject,
        _ => false,
    })?;
    let number = broken + 2;
    let issuer = links.get(broken).map(|link| &link.issuer);
    Some(if links.iter().any(|link| Some(&link.subject) == issuer) {
        "the chain is out of order: put the leaf first, and after each the one that vouches for it"
            .to_owned()
    } else {
        format!(
            "certificate {number} of the chain does not vouch for the one before it: take it out, or put \
             the missing one between them"
        )
    })
}

fn name(leaf: &ParsedCertificate<'_>, host: &str) -> Option<String> {
    let name = ServerName::try_from(host).ok()?;
    verify_server_name(leaf, &name).err().map(|_| {
        format!(
            "the certificate is not for {host}, the host of server.public_url: have one issued that \
             names it"
        )
    })
}

fn trust(
    leaf: &ParsedCertificate<'_>,
    self_issued: bool,
    above: &[CertificateDer<'static>],
    (roots, now): (&RootCertStore, Timestamp),
) -> Option<String> {
    const PUBLIC: &str = "Altinn takes only those of public authorities";
    if roots.is_empty() {
        let words = "this system has no list of authorities (install ca-certificates): whether the \
                     certificate is trusted cannot be seen";
        return Some(words.to_owned());
    }
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let error =
        verify_server_cert_signed_by_trust_anchor(leaf, roots, above, now, algorithms).err()?;
    let of_age = |error: &rustls::Error| {
        matches!(
            error,
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
            )
        )
    };
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    if of_age(&error) {
        None
    } else if self_issued {
        Some(format!("the certificate is self-signed: {PUBLIC}"))
    } else if error == unknown && above.is_empty() {
        Some(format!(
            "the certificate stands alone and no trusted authority vouches for it: put the whole chain \
             into the file (fullchain.pem, not cert.pem); {PUBLIC}"
        ))
    } else if error == unknown {
        Some(format!(
            "the chain leads to no authority that this system trusts: see that no certificate is missing \
             in it; {PUBLIC}"
        ))
    } else {
        Some(format!("clients will refuse the chain ({error}): have another issued"))
    }
}

#[cfg(test)]
mod tests;
