//! Sign-in with Maskinporten: a signed JWT for an access token (RFC 7523).
//!
//! Owns the grant. It sends the documented claims and no others: Maskinporten answers 400 to a
//! claim that it does not know. Each grant is used once (MP-012), so there is nothing to keep.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    call::{Answer, SMALL, Tally},
    problem::Words,
    token::{AccessToken, Refused, TokenError, TokenSource},
};
use crate::{clock::Timestamp, config, secret::SecretFile};

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
    key: RwLock<Arc<EncodingKey>>,
    tally: Tally,
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
    pub(super) fn new(
        client: Client,
        issuer: &str,
        settings: &config::Maskinporten,
        tally: Tally,
    ) -> Result<Self, TokenError> {
        let key = RwLock::new(Arc::new(read_key(&settings.key_file)?));
        Ok(Self { client, issuer: issuer.to_owned(), settings: settings.clone(), key, tally })
    }

    /// Reads the key again; a bad file leaves the old one in use.
    pub fn reload(&self) -> Result<(), TokenError> {
        let key = Arc::new(read_key(&self.settings.key_file)?);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    fn assertion(&self, now: Timestamp) -> Result<String, TokenError> {
        let iat = now.as_secs();
        let claims = Claims {
            aud: &self.issuer,
            iss: &self.settings.client_id,
            iat,
            exp: iat + GRANT_LIFE,
            jti: uuid::Uuid::new_v4().to_string(),
            scope: self.settings.scopes.join(" "),
            authorization_details: self.settings.system_user.as_ref().map(|user| [detail(user)]),
        };
        let header = Header {
            typ: None,
            kid: Some(self.settings.key_id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        let key = Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner));
        jsonwebtoken::encode(&header, &claims, &key)
            .map_err(|error| bad_key(&self.settings.key_file, &error))
    }

    fn refused(&self, answer: &Answer) -> TokenError {
        let denied: Denied = serde_json::from_slice(&answer.body).unwrap_or_default();
        let words = match &denied.error_description {
            Some(description) => Words::new(description),
            None => Words::of_body(&answer.body),
        };
        let uri = denied.error_uri.as_deref().map(|uri| Words::new(uri).text);
        let code =
            [uri.as_deref(), Some(words.text.as_str())].into_iter().flatten().find_map(mp_code);
        TokenError::Refused(Box::new(Refused {
            who: WHO,
            status: answer.status,
            error: denied.error.map(|error| Words::new(&error).text),
            code,
            uri,
            words,
            hint: answer.date.and_then(|theirs| clock_hint(self.tally.clock.now(), theirs)),
            retry_after: answer.retry_after,
        }))
    }
}

impl TokenSource for Maskinporten {
    async fn token(&self) -> Result<AccessToken, TokenError> {
        let asked = self.tally.clock.now();
        let assertion = self.assertion(asked)?;
        let form = Form { grant_type: GRANT_TYPE, assertion: &assertion };
        let request = self.client.post(format!("{}token", self.issuer)).form(&form);
        let answer = self.tally.send("token", request, SMALL).await;
        let answer = answer.map_err(|reason| TokenError::Unreachable { who: WHO, reason })?;
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|_| TokenError::Malformed { who: WHO, fault: "not the JSON of RFC 6749" })?;
        if granted.access_token.expose_secret().is_empty() {
            return Err(TokenError::Malformed { who: WHO, fault: "access_token is empty" });
        }
        let life = Duration::from_secs(granted.expires_in);
        Ok(AccessToken::new(granted.access_token, asked.after(life)))
    }
}

fn detail(user: &config::SystemUser) -> SystemUserDetail<'_> {
    SystemUserDetail {
        ty: "urn:altinn:systemuser",
        systemuser_org: OrganisationId {
            authority: "iso6523-actorid-upis",
            id: format!("0192:{}", user.org),
        },
        external_ref: user.external_ref.as_deref(),
    }
}

fn read_key(file: &SecretFile) -> Result<EncodingKey, TokenError> {
    let pem = file.read()?;
    let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes())
        .map_err(|error| bad_key(file, &error))?;
    let header = Header::new(Algorithm::RS256);
    match jsonwebtoken::encode(&header, &serde_json::json!({}), &key) {
        Ok(_) => Ok(key),
        Err(error) => Err(bad_key(file, &error)),
    }
}

fn bad_key(file: &SecretFile, error: &jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Key { file: file.to_string(), reason: error.to_string() }
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
