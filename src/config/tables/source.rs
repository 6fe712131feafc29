//! `[sources.NAME]`.

use std::time::Duration;

use ::config::ValueKind;

use super::bounds::above_zero;
use crate::{
    config::{
        files::Role,
        read::section::{Reported, Section},
    },
    secret::SecretFile,
};

/// `[sources.NAME]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// How its requests are authenticated.
    pub auth: SourceAuth,
    /// Origins that may ask by OPTIONS.
    pub allowed_origins: Vec<String>,
}

/// `[sources.NAME] auth`.
#[derive(Debug, Clone)]
pub enum SourceAuth {
    /// `Authorization: Bearer`.
    Bearer {
        /// The token, one a line.
        file: SecretFile,
    },
    /// Standard Webhooks signatures (`webhook-id`, `webhook-timestamp`, `webhook-signature`).
    StandardWebhooks {
        /// `whsec_…`, one a line.
        file: SecretFile,
        /// How far the timestamp may be off.
        tolerance: Duration,
    },
    /// Whoever `server.allow_from` lets in; it is set and enforced.
    AllowFrom,
}

/// An older signature could be replayed for too long.
const LARGEST_TOLERANCE: Duration = Duration::from_secs(3600);
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

const RIGHT: &str = "must be { bearer_file = \"…\" } or { standard_webhooks_file = \"…\" }, or \
                     \"allow_from\"";

const NOT_BUILT: [(&str, &str); 1] = [(
    "client_certificate_names",
    "client_certificate_names is not built yet: use bearer_file or standard_webhooks_file",
)];

/// `guarded` is whether `server.allow_from` keeps others out.
pub(in crate::config) fn source(
    mut section: Section<'_>,
    guarded: bool,
) -> Result<Source, Reported> {
    section.refuse(&[("allowed_callbacks", "allowed_callbacks is not built yet")]);
    let auth = auth(&mut section, guarded);
    let allowed_origins = section.optional_as("allowed_origins", origins);
    section.finish();
    Ok(Source { auth: auth?, allowed_origins: allowed_origins?.unwrap_or_default() })
}

fn auth(section: &mut Section<'_>, guarded: bool) -> Result<SourceAuth, Reported> {
    let Some(value) = section.take("auth") else {
        return Err(section.fault("auth", format!("is missing: {RIGHT}")));
    };
    if matches!(&value.kind, ValueKind::String(word) if word == "allow_from") {
        if guarded {
            return Ok(SourceAuth::AllowFrom);
        }
        let message = "allow_from needs server.allow_from, and allow_from_mode = \"enforce\"";
        return Err(section.fault("auth", message));
    }
    if !matches!(value.kind, ValueKind::Table(_)) {
        return Err(section.fault("auth", RIGHT));
    }
    let mut auth = section.below("auth", "auth", value)?;
    let refused = auth.refuse(&NOT_BUILT);
    let bearer = auth.secret("bearer_file");
    let webhooks = auth.secret("standard_webhooks_file");
    if let Ok(Some(file)) = &bearer {
        auth.names("bearer_file", Role::Bearer(file.clone()));
    }
    if let Ok(Some(file)) = &webhooks {
        auth.names("standard_webhooks_file", Role::Signing(file.clone()));
    }
    let tolerance = auth.optional_as("tolerance", above_zero(LARGEST_TOLERANCE));
    let chosen = read_all(bearer, webhooks, tolerance)
        .and_then(|read| refused.map_or(Ok(read), Err))
        .and_then(|(bearer, webhooks, tolerance)| choose(&auth, bearer, webhooks, tolerance));
    auth.finish();
    chosen
}

fn read_all<A, B, C>(
    one: Result<A, Reported>,
    two: Result<B, Reported>,
    three: Result<C, Reported>,
) -> Result<(A, B, C), Reported> {
    Ok((one?, two?, three?))
}

fn choose(
    auth: &Section<'_>,
    bearer: Option<SecretFile>,
    webhooks: Option<SecretFile>,
    tolerance: Option<Duration>,
) -> Result<SourceAuth, Reported> {
    match (bearer, webhooks) {
        (Some(_), None) if tolerance.is_some() => {
            Err(auth.fault("tolerance", "is only for standard_webhooks_file"))
        }
        (Some(file), None) => Ok(SourceAuth::Bearer { file }),
        (None, Some(file)) => {
            let tolerance = tolerance.unwrap_or(USUAL_TOLERANCE);
            Ok(SourceAuth::StandardWebhooks { file, tolerance })
        }
        (None, None) => Err(auth.fault_here(RIGHT)),
        (Some(_), Some(_)) => Err(auth.fault_here(format!("{RIGHT}, not both"))),
    }
}

fn origins(origins: Vec<String>) -> Result<Vec<String>, String> {
    if origins.iter().any(|origin| origin.contains(['*', ' ', ','])) {
        return Err("must name each origin wholly, such as \"events.example.com\"".to_owned());
    }
    Ok(origins)
}
