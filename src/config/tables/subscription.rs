//! `[subscriptions.NAME]`: only what Altinn takes, and what can match there.
//!
//! Altinn takes filters that never match (an empty text, a wrong form of subject) without a word;
//! they are refused here. Messages never repeat a subject.

use ::config::{Value, ValueKind};

use crate::{
    config::{
        files::Role,
        read::{
            section::{Reported, Section},
            setting::Setting,
        },
    },
    queue::StartAt,
    secret::SecretFile,
};

/// `[subscriptions.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The whole URN.
    pub resource: String,
    /// A URN or Altinn path; `None` as service owner.
    pub subject: Option<String>,
    /// Exact; one.
    pub ty: Option<String>,
    /// Also the subject's subunits.
    pub include_subunits: bool,
    /// The hook's secrets; made and kept by brevdue if `None`.
    pub secret_file: Option<SecretFile>,
    /// Whether the feed's past is taken in at the first start.
    pub start_from: StartAt,
}

const RESOURCE: &str = "urn:altinn:resource:";
pub(super) const ORGANISATION: &str = "urn:altinn:organization:identifier-no:";
const PERSON: &str = "urn:altinn:person:identifier-no:";
/// Forms that Altinn knows beside URNs; `/organisation/…` is one too, but no event bears it.
pub(super) const PATHS: [&str; 4] = ["/party/", "/user/", "/org/", "/systemuser/"];

const SOURCE: &str = "Altinn answers 400 to a source filter: it goes by resource; leave it out";
const ALTERNATIVE: &str =
    "Altinn answers 400 to an alternative subject: it is for app events only; use subject";
const REFUSED: [(&str, &str); 8] = [
    ("source", SOURCE),
    ("source_filter", SOURCE),
    ("sourceFilter", SOURCE),
    ("alternative_subject", ALTERNATIVE),
    ("alternative_subject_filter", ALTERNATIVE),
    ("alternativesubject", ALTERNATIVE),
    ("alternativeSubjectFilter", ALTERNATIVE),
    ("endpoint", "brevdue makes it, of server.public_url, the name and the secret; leave it out"),
];

pub(in crate::config) fn subscription(mut section: Section<'_>) -> Result<Subscription, Reported> {
    section.refuse(&REFUSED);
    let resource = section.need_as("resource", resource);
    let subject = section.optional_as("subject", subject);
    let ty = section.optional_as("type", |Type(ty)| Ok(ty));
    let include_subunits = section.or("include_subunits", false);
    if let (Ok(true), Ok(None)) = (&include_subunits, &subject) {
        section
            .fault("include_subunits", "needs a subject: the main unit whose subunits are meant");
    }
    let secret_file = section.secret("secret_file");
    if let Ok(Some(file)) = &secret_file {
        section.names("secret_file", Role::Codes(file.clone()));
    }
    let start_from = start(&mut section, "start_from");
    section.finish();
    Ok(Subscription {
        resource: resource?,
        subject: subject?,
        ty: ty?,
        include_subunits: include_subunits?,
        secret_file: secret_file?,
        start_from: start_from?,
    })
}

/// `now` or `oldest`.
pub(in crate::config) fn start(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<StartAt, Reported> {
    let choices = [("now", StartAt::Now), ("oldest", StartAt::Oldest)];
    section.choice(key, &choices).map(Option::unwrap_or_default)
}

pub(super) fn resource(text: String) -> Result<String, String> {
    if text.contains(char::is_uppercase) {
        return Err("must be lower case: Altinn compares it so".to_owned());
    }
    let urn = if text.contains(':') { text } else { format!("{RESOURCE}{text}") };
    if !urn.starts_with(RESOURCE) {
        return Err(format!("must be a resource's id or begin with {RESOURCE}"));
    }
    if is_urn(&urn) {
        Ok(urn)
    } else {
        Err("must be a resource's id such as \"nabovarsel\": a-z, 0-9 and ()+,.-;$_!/".to_owned())
    }
}

/// Altinn's `^urn:[a-z0-9-]{1,30}(:[a-z0-9()+,.\-;$_!\/]{1,100}){1,10}$`.
fn is_urn(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let more = |c: u8| plain(c) || b"()+,.;$_!/".contains(&c);
    let mut parts = text.split(':');
    let scheme = parts.next() == Some("urn");
    let space = parts
        .next()
        .is_some_and(|space| (1..=30).contains(&space.len()) && space.bytes().all(plain));
    let parts: Vec<_> = parts.collect();
    let legal = |part: &&str| (1..=100).contains(&part.len()) && part.bytes().all(more);
    scheme && space && (1..=10).contains(&parts.len()) && parts.iter().all(legal)
}

pub(super) fn subject(text: String) -> Result<String, String> {
    if is_number(&text, 9) {
        return Ok(format!("{ORGANISATION}{text}"));
    }
    let fault = if is_number(&text, 11) {
        format!("must be written {PERSON}NUMBER if a person is meant")
    } else if text.bytes().all(|c| c.is_ascii_digit()) {
        "must be nine digits if it is an organisation number".to_owned()
    } else if text.contains(char::is_whitespace) {
        "must be without white space".to_owned()
    } else if text.starts_with("/organisation/") || text.starts_with("/organization/") {
        format!("must be {ORGANISATION}NUMBER: Altinn would take this, but no event bears it")
    } else if let Some(number) = text.strip_prefix(ORGANISATION) {
        return whole(number, 9, &text, "an organisation number: nine digits");
    } else if let Some(number) = text.strip_prefix(PERSON) {
        return whole(number, 11, &text, "a national identity number: eleven digits");
    } else if text.starts_with("urn:altinn:organisation:") {
        format!("must be {ORGANISATION}NUMBER, with a z")
    } else if is_other_subject(&text) {
        return Ok(text);
    } else {
        format!(
            "must be nine digits, a URN such as {ORGANISATION}NUMBER, or a path such as /party/ID"
        )
    };
    Err(fault)
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_digit())
}

fn whole(number: &str, digits: usize, text: &str, right: &str) -> Result<String, String> {
    if is_number(number, digits) {
        Ok(text.to_owned())
    } else {
        Err(format!("must end in {right}"))
    }
}

fn is_other_subject(text: &str) -> bool {
    let path = PATHS.iter().any(|path| text.strip_prefix(path).is_some_and(|id| !id.is_empty()));
    // Values of URNs may be upper case: the comparison is exact, so nothing is changed.
    let urn = text.strip_prefix("urn:").is_some_and(|rest| {
        rest.split(':').count() >= 2 && rest.split(':').all(|part| !part.is_empty())
    });
    path || urn
}

/// Exactly one type.
struct Type(String);

impl Setting for Type {
    fn read(value: Value) -> Result<Self, String> {
        if matches!(value.kind, ValueKind::Array(_)) {
            return Err(
                "must be one type, not a list: Altinn has one for each subscription; make \
                        another subscription, or leave it out and choose in the handler's match"
                    .to_owned(),
            );
        }
        let ty = String::read(value)?;
        if ty.contains(['*', '%']) {
            return Err(
                "must be a whole type: Altinn has no wildcards here; leave it out and choose \
                        in the handler's match"
                    .to_owned(),
            );
        }
        Ok(Self(ty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_fits_altinns_rule() {
        let long = "a".repeat(101);
        for (written, good) in [
            ("nabovarsel", true),
            ("dagl-correspondence.1_x", true),
            ("urn:altinn:resource:nabovarsel", true),
            ("urn:altinn:resource:app_ttd_apps-test", true),
            ("urn:altinn:resource:a:b", true),
            ("Nabovarsel", false),
            ("nabo varsel", false),
            ("nabovarsel%", false),
            ("blåbær", false),
            ("urn:altinn:resource:", false),
            ("urn:altinn:other:x", false),
            ("urn:altinn:resource:a:b:c:d:e:f:g:h:i", true),
            ("urn:altinn:resource:a:b:c:d:e:f:g:h:i:j", false),
            (long.as_str(), false),
        ] {
            assert_eq!(resource(written.to_owned()).is_ok(), good, "{written}");
        }
        assert_eq!(resource("x".to_owned()).unwrap(), "urn:altinn:resource:x");
    }

    #[test]
    fn a_subject_is_a_number_a_urn_or_a_path() {
        for (written, kept) in [
            ("999888777", Some("urn:altinn:organization:identifier-no:999888777")),
            ("urn:altinn:organization:identifier-no:999888777", None),
            ("urn:altinn:person:identifier-no:01017012345", None),
            ("urn:altinn:systemuser:uuid:6F1A", None),
            ("/party/50001337", None),
            ("/user/1", None),
        ] {
            let expected = kept.unwrap_or(written).to_owned();
            assert_eq!(subject(written.to_owned()), Ok(expected));
        }
    }

    #[test]
    fn a_refused_subject_is_not_repeated() {
        for (written, words) in [
            ("01017012345", "urn:altinn:person:identifier-no:NUMBER"),
            ("99988877", "nine digits"),
            ("/organisation/999888777", "urn:altinn:organization:identifier-no:NUMBER"),
            ("urn:altinn:organisation:identifier-no:999888777", "with a z"),
            ("urn:altinn:organization:identifier-no:12", "nine digits"),
            ("urn:altinn:person:identifier-no:999888777", "eleven digits"),
            ("urn:", "must be nine digits"),
            ("/party/", "must be nine digits"),
            ("URN:altinn:party:999888777", "must be nine digits"),
            ("999 888 777", "white space"),
        ] {
            let fault = subject(written.to_owned()).unwrap_err();
            assert!(fault.contains(words), "{written}: {fault}");
            assert!(!["9998", "0101"].iter().any(|digits| fault.contains(digits)), "{fault}");
        }
    }
}
