//! Altinn's token exchange: another token for an Altinn token, which alone opens its APIs.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

use super::token::{AccessToken, Refused, TokenError, TokenSource};
use crate::{
    altinn::http::{
        advice,
        client::{Answer, Platform, SMALL},
        error_text::ErrorText,
    },
    backoff::Backoff,
    clock::Timestamp,
};

const WHO: &str = "Altinn's token exchange";
const PATH: &str = "/authentication/api/v1/exchange/maskinporten";

/// A 401 is asked again so often before it is believed: the exchange tells its own failures so.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Exchanges what `inner` gives.
#[derive(Debug)]
pub struct Exchange<T> {
    inner: T,
    platform: Arc<Platform>,
}

impl<T> Exchange<T> {
    pub(crate) fn new(inner: T, platform: Arc<Platform>) -> Self {
        Self { inner, platform }
    }

    /// The source whose tokens are exchanged.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The source again.
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    /// Exchanges this token. Who gives it back can use it again: the exchange takes it while it
    /// holds.
    pub(crate) async fn exchange(&self, original: &AccessToken) -> Result<AccessToken, TokenError> {
        let mut attempt = 1;
        loop {
            match self.ask(original).await {
                Err(error) if attempt < ATTEMPTS && is_unauthorized(&error) => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                told => return told,
            }
        }
    }

    async fn ask(&self, original: &AccessToken) -> Result<AccessToken, TokenError> {
        let request = self.platform.request(Method::GET, PATH, original.secret());
        let answer = self.platform.caller.send("exchange", request, SMALL).await;
        let answer = answer.map_err(|reason| TokenError::Unreachable { who: WHO, reason })?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        let malformed = |fault| TokenError::Malformed { who: WHO, fault };
        let body =
            SecretString::from(String::from_utf8(answer.body).map_err(|_| malformed("not text"))?);
        let jwt = bare(body.expose_secret()).ok_or(malformed("not a JWT"))?;
        let expires = expires(jwt).ok_or(malformed("a JWT without exp"))?;
        if expires <= self.platform.caller.clock.now() {
            return Err(malformed("it has ended already by this machine's clock"));
        }
        Ok(AccessToken::new(SecretString::from(jwt), expires))
    }
}

impl<T: TokenSource> TokenSource for Exchange<T> {
    async fn token(&self) -> Result<AccessToken, TokenError> {
        let original = self.inner.token().await?;
        self.exchange(&original).await
    }
}

/// A 401 that names no time to stay away.
fn is_unauthorized(error: &TokenError) -> bool {
    error.refused().is_some_and(|refused| {
        refused.status == StatusCode::UNAUTHORIZED && refused.retry_after.is_none()
    })
}

fn pause(attempt: u32) -> Duration {
    let backoff = Backoff::try_new(FIRST_PAUSE, LAST_PAUSE, 2.0);
    backoff.map_or(LAST_PAUSE, |backoff| backoff.random_delay(attempt))
}

fn refused(answer: &Answer) -> TokenError {
    TokenError::Refused(Box::new(Refused {
        who: WHO,
        status: answer.status,
        error: None,
        code: None,
        uri: None,
        words: ErrorText::of_body(&answer.body),
        hint: None,
        advice: advice::of_exchange(answer.status),
        retry_after: answer.retry_after,
    }))
}

/// The JWT out of a body that is bare or a JSON string, if it looks like one.
pub(in crate::altinn) fn bare(body: &str) -> Option<&str> {
    let body = body.trim();
    let body = body.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(body);
    let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let part = |part: &str| !part.is_empty() && part.bytes().all(legal);
    (body.split('.').count() == 3 && body.split('.').all(part)).then_some(body)
}

/// `exp`, read without verification: the token is Altinn's to judge, we only need its lifetime.
pub(in crate::altinn) fn expires(jwt: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: serde_json::Number,
    }
    let exp = claims::<Claims>(jwt)?.exp;
    let seconds = exp.as_u64().or_else(|| whole(exp.as_f64()?))?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

/// What a token says of itself, unverified.
pub(crate) fn claims<T: DeserializeOwned>(jwt: &str) -> Option<T> {
    let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// `NumericDate` may have a fraction (RFC 7519 section 2).
fn whole(seconds: f64) -> Option<u64> {
    format!("{:.0}", seconds.floor()).parse().ok()
}

#[cfg(test)]
mod tests;
