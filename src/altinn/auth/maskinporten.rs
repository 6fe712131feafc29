//! Sign-in with Maskinporten: a signed JWT for an access token (RFC 7523).
//!
//! Owns the grant. It sends the documented claims and no others: Maskinporten answers 400 to a
//! claim that it does not know. Each grant is used once (MP-012), so there is nothing to keep.

pub(crate) mod discovery;
pub(crate) mod identity;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use self::{discovery::Discovery, identity::Identity};
use super::token::{AccessToken, Refused, TokenError, TokenSource};
use crate::{
    altinn::http::{
        advice,
        client::{Answer, Caller, SMALL},
        error_text::ErrorText,
    },
    clock::Timestamp,
    config::{self, SystemUser},
};

const WHO: &str = "Maskinporten";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// `exp - iat`; Maskinporten takes at most 120 s.
const GRANT_LIFE: u64 = 60;
/// `iat` may be this far from Maskinporten's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);

/// The client at Maskinporten.
pub struct Maskinporten {
    client: Client,
    issuer: String,
    settings: config::Maskinporten,
    identity: RwLock<Arc<Identity>>,
    discovery: Discovery,
    caller: Caller,
}

/// What a token is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    pub(crate) scopes: &'w [String],
    pub(crate) system_user: Option<&'w SystemUser>,
}

/// A token, and what it is good for.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) token: AccessToken,
    /// As Maskinporten tells it.
    pub(crate) scope: Option<String>,
}

impl fmt::Debug for Maskinporten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maskinporten").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    scope: String,
    /// Audience restriction (RFC 8707); always an array.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    resource: &'a [String],
    /// By delegation in Altinn: the consumer that a supplier asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_details: Option<[SystemUserDetail<'a>; 1]>,
}

/// Rich authorization request (RFC 9396) for a system user.
#[derive(Serialize)]
struct SystemUserDetail<'a> {
    #[serde(rename = "type")]
    ty: &'static str,
    systemuser_org: OrganisationId,
    #[serde(rename = "externalRef", skip_serializing_if = "Option::is_none")]
    external_ref: Option<&'a str>,
}

#[derive(Serialize)]
struct OrganisationId {
    authority: &'static str,
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Serialize)]
struct Form<'a> {
    grant_type: &'static str,
    assertion: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    expires_in: u64,
    scope: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[derive(Default, Deserialize)]
struct Denied {
    error: Option<String>,
    error_description: Option<String>,
    error_uri: Option<String>,
}

impl Maskinporten {
    /// Reads the key and signs once with it, so that a bad one is found at the start.
    pub(crate) fn new(
        client: Client,
        issuer: &str,
        settings: &config::Maskinporten,
        caller: Caller,
    ) -> Result<Self, TokenError> {
        let identity = RwLock::new(Arc::new(Identity::read(settings)?));
        let discovery = Discovery::new(issuer, settings.token_endpoint.as_ref());
        let settings = settings.clone();
        Ok(Self { client, issuer: issuer.to_owned(), settings, identity, discovery, caller })
    }

    /// Reads key and certificate again; the old ones stay in use until what is returned is called.
    pub fn read_anew(&self) -> Result<impl FnOnce() + '_, TokenError> {
        let identity = Arc::new(Identity::read(&self.settings)?);
        Ok(move || {
            for warning in identity.warnings(self.caller.clock.now()) {
                tracing::warn!(setting = "altinn.maskinporten.certificate_file", "{warning}");
            }
            *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
        })
    }

    fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the daemon asks for.
    pub(crate) fn usual(&self) -> Wanted<'_> {
        let system_user = self.settings.system_user.as_ref();
        Wanted { scopes: &self.settings.scopes, system_user }
    }

    /// Asks for a token.
    pub(crate) async fn grant(&self, wanted: Wanted<'_>) -> Result<Grant, TokenError> {
        let endpoint = self.discovery.token_endpoint(&self.client, &self.caller).await;
        let asked = self.caller.clock.now();
        let assertion = self.assertion(asked, wanted)?;
        let form = Form { grant_type: GRANT_TYPE, assertion: &assertion };
        let request = self.client.post(endpoint).form(&form);
        let answer = self.caller.send("token", request, SMALL).await;
        let answer = answer.map_err(|reason| TokenError::Unreachable { who: WHO, reason })?;
        if let Some(skew) = answer.skew {
            skew.note(&self.caller.metrics);
        }
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|_| TokenError::Malformed { who: WHO, fault: "not the JSON of RFC 6749" })?;
        if granted.access_token.expose_secret().is_empty() {
            return Err(TokenError::Malformed { who: WHO, fault: "access_token is empty" });
        }
        let life = Duration::from_secs(granted.expires_in);
        let token = AccessToken::new(granted.access_token, asked.after(life));
        Ok(Grant { token, scope: granted.scope })
    }

    fn assertion(&self, now: Timestamp, wanted: Wanted<'_>) -> Result<String, TokenError> {
        let iat = now.as_secs();
        let claims = Claims {
            aud: &self.issuer,
            iss: &self.settings.client_id,
            iat,
            exp: iat + GRANT_LIFE,
            jti: uuid::Uuid::new_v4().to_string(),
            scope: wanted.scopes.join(" "),
            resource: &self.settings.resource,
            consumer_org: self.settings.consumer_org.as_deref(),
            authorization_details: wanted.system_user.map(|user| [detail(user)]),
        };
        let identity = self.identity();
        identity.key.jwt(&identity.header, &claims).ok_or_else(|| TokenError::Key {
            file: self.settings.key_file.to_string(),
            reason: "the key does not sign".to_owned(),
        })
    }

    fn refused(&self, answer: &Answer) -> TokenError {
        let denied: Denied = serde_json::from_slice(&answer.body).unwrap_or_default();
        let words = match &denied.error_description {
            Some(description) => ErrorText::new(description),
            None => ErrorText::of_body(&answer.body),
        };
        let uri = denied.error_uri.as_deref().map(|uri| ErrorText::new(uri).text);
        let code =
            [uri.as_deref(), Some(words.text.as_str())].into_iter().flatten().find_map(mp_code);
        let advice = advice::of_maskinporten(code.as_deref(), &words.text);
        TokenError::Refused(Box::new(Refused {
            who: WHO,
            status: answer.status,
            error: denied.error.map(|error| ErrorText::new(&error).text),
            code,
            uri,
            words,
            hint: answer.date.and_then(|theirs| clock_hint(self.caller.clock.now(), theirs)),
            advice,
            retry_after: answer.retry_after,
        }))
    }
}

impl TokenSource for Maskinporten {
    async fn token(&self) -> Result<AccessToken, TokenError> {
        Ok(self.grant(self.usual()).await?.token)
    }
}

fn detail(user: &SystemUser) -> SystemUserDetail<'_> {
    SystemUserDetail {
        ty: "urn:altinn:systemuser",
        systemuser_org: OrganisationId {
            authority: "iso6523-actorid-upis",
            id: format!("0192:{}", user.org),
        },
        external_ref: user.external_ref.as_deref(),
    }
}

/// `MP-` and its digits, wherever they stand.
fn mp_code(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("MP-")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).take(6).collect();
    (!digits.is_empty()).then(|| format!("MP-{digits}"))
}

fn clock_hint(ours: Timestamp, theirs: Timestamp) -> Option<&'static str> {
    if ours.since(theirs) > CLOCK_TOLERANCE {
        Some(" (this machine's clock is ahead of theirs)")
    } else if theirs.since(ours) > CLOCK_TOLERANCE {
        Some(" (this machine's clock is behind theirs)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
