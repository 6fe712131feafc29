//! What a refusal means, and what to do about it.
//!
//! Owns the table of Maskinporten's codes and of the statuses that both sides share. Who waits, and
//! how long, is not decided here.

use std::fmt;

use http::StatusCode;

/// Who can end a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, or what the client is registered with.
    Configuration,
    /// A person: a right to grant, an approval to give, a clock to set.
    Person,
    /// Time.
    Passing,
}

impl Kind {
    /// In words.
    pub fn ended_by(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration",
            Self::Person => "a person",
            Self::Passing => "time",
        }
    }
}

/// What is known of a fault.
#[derive(Debug, PartialEq, Eq)]
pub struct Advice {
    /// Who can end it.
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub cure: &'static str,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meaning: {}; what to do: {}", self.meaning, self.cure)
    }
}

const fn advice(kind: Kind, meaning: &'static str, cure: &'static str) -> Advice {
    Advice { kind, meaning, cure }
}

const CLOCK: Advice = advice(
    Kind::Person,
    "this machine's clock is not Maskinporten's; they may differ by 10 s",
    "synchronise the clock (systemd-timesyncd, chrony)",
);

/// Maskinporten's codes.
#[rustfmt::skip]
static CODES: [(&str, Advice); 16] = [
    ("MP-011", advice(Kind::Configuration, "Maskinporten cannot read the request",
        "check client_id, scopes, consumer_org and resource for stray characters")),
    ("MP-012", advice(Kind::Passing, "this very request was made before",
        "nothing: the next one is a new one")),
    ("MP-100", advice(Kind::Configuration, "this Maskinporten does not know the client",
        "check altinn.maskinporten.client_id, and that altinn.environment is where it is registered")),
    ("MP-110", advice(Kind::Configuration, "the request was meant for another Maskinporten",
        "check altinn.environment or altinn.maskinporten_issuer")),
    ("MP-120", advice(Kind::Configuration, "the enterprise certificate is not good",
        "check that certificate_file is a valid enterprise certificate for this environment")),
    ("MP-121", advice(Kind::Person, "the key is expired: a key lives a year on a client",
        "register the public key with the client again, or a new one and its key_id")),
    ("MP-122", advice(Kind::Configuration, "the certificate is another organisation's than the client",
        "use a certificate of the organisation that owns the client")),
    ("MP-123", advice(Kind::Configuration, "Maskinporten cannot use the certificate",
        "check that certificate_file has the whole chain, the leaf first")),
    ("MP-124", advice(Kind::Configuration, "the signature is not by the registered key",
        "check that key_file is the private half of the key that key_id or certificate_file names")),
    ("MP-130", CLOCK),
    ("MP-200", advice(Kind::Configuration, "the client does not have this scope",
        "add the scope to the client in Digdir's self service, or take it out of scopes")),
    ("MP-201", advice(Kind::Configuration, "a scope is not one for Maskinporten",
        "take the scope out of altinn.maskinporten.scopes")),
    ("MP-250", advice(Kind::Person, "the organisation has not been granted this scope",
        "ask the scope's owner for access; for Altinn's that is servicedesk@altinn.no")),
    ("MP-251", advice(Kind::Person, "the consumer has not delegated this scope to the supplier",
        "have the consumer delegate it in Altinn")),
    ("MP-301", advice(Kind::Configuration, "this Maskinporten does not know system users",
        "check altinn.environment: system users work with tt02 and prod")),
    ("MP-302", advice(Kind::Configuration, "Maskinporten does not know how the system user was named",
        "check altinn.maskinporten.system_user, and whether there is a newer brevdue")),
];

static SYSTEM_USER: Advice = advice(
    Kind::Person,
    "there is no such system user for this client: not approved yet, withdrawn, created with another \
     external_ref, for another organisation, or its system does not list the client",
    "have the system user approved in Altinn, and check system_user.org, system_user.external_ref \
     and the system's clientId",
);

/// What has no code of its own, by a part of its description.
#[rustfmt::skip]
static TEXTS: [(&str, Advice); 4] = [
    ("Issue time is after now", CLOCK),
    ("Unknown key identifier", advice(Kind::Configuration, "the client has no key by this key_id",
        "check altinn.maskinporten.key_id; a key that was registered just now may take a minute")),
    ("no key identifier (kid) provided", advice(Kind::Configuration,
        "the client takes registered keys only, not certificates",
        "register the key and name it in key_id, instead of certificate_file")),
    ("combination consumer_org", advice(Kind::Configuration, "consumer_org is the client's own organisation",
        "leave altinn.maskinporten.consumer_org out")),
];

/// What Maskinporten's refusal means.
pub(crate) fn of_maskinporten(code: Option<&str>, description: &str) -> Option<&'static Advice> {
    if code == Some("MP-303") {
        return Some(&SYSTEM_USER);
    }
    let by_code = || CODES.iter().find(|(known, _)| Some(*known) == code);
    let by_text = || TEXTS.iter().find(|(part, _)| description.contains(part));
    by_code().or_else(by_text).map(|(_, advice)| advice)
}

static NO_EXCHANGE: Advice = advice(
    Kind::Configuration,
    "this Altinn does not take this Maskinporten's token; or it has an outage, which it tells in the \
     same way",
    "check that altinn.environment is the one that the client is registered for; if it is, wait",
);
static ENTERPRISE_USER: Advice = advice(
    Kind::Configuration,
    "something on the way adds the header of the abolished enterprise user",
    "take X-Altinn-EnterpriseUser-Authentication out of the proxy's settings",
);

/// What a refusal of the exchange means, after it was repeated.
pub(crate) fn of_exchange(status: StatusCode) -> Option<&'static Advice> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(&NO_EXCHANGE),
        StatusCode::GONE => Some(&ENTERPRISE_USER),
        _ => None,
    }
}

/// Who can end what has only a status.
pub(crate) fn of_status(status: StatusCode) -> Kind {
    let passing =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || passing.contains(&status) {
        Kind::Passing
    } else {
        Kind::Configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_maskinportens_list_has_its_kind() {
        use Kind::{Configuration, Passing, Person};
        for (code, kind) in [
            ("MP-011", Configuration),
            ("MP-012", Passing),
            ("MP-100", Configuration),
            ("MP-110", Configuration),
            ("MP-120", Configuration),
            ("MP-121", Person),
            ("MP-122", Configuration),
            ("MP-123", Configuration),
            ("MP-124", Configuration),
            ("MP-130", Person),
            ("MP-200", Configuration),
            ("MP-201", Configuration),
            ("MP-250", Person),
            ("MP-251", Person),
            ("MP-301", Configuration),
            ("MP-302", Configuration),
            ("MP-303", Person),
        ] {
            let advice = of_maskinporten(Some(code), "").unwrap_or_else(|| panic!("{code}"));
            assert_eq!(advice.kind, kind, "{code}");
            assert!(!advice.meaning.is_empty() && !advice.cure.is_empty(), "{code}");
        }
        assert_eq!(of_maskinporten(Some("MP-999"), "something new"), None);
    }

    #[test]
    fn what_has_no_code_is_known_by_its_text() {
        let described = |text| of_maskinporten(None, text).map(|advice| advice.kind);
        assert_eq!(described("Issue time is after now"), Some(Kind::Person));
        let unknown = "Invalid assertion. Client authentication failed. \
                       Unknown key identifier (kid) for client";
        assert_eq!(described(unknown), Some(Kind::Configuration));
        assert_eq!(described("Invalid assertion"), None);
    }

    #[test]
    fn a_status_alone_tells_who_can_end_it() {
        for (status, kind) in [
            (500, Kind::Passing),
            (503, Kind::Passing),
            (429, Kind::Passing),
            (408, Kind::Passing),
            (400, Kind::Configuration),
            (404, Kind::Configuration),
            (302, Kind::Configuration),
        ] {
            assert_eq!(of_status(StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }
}
