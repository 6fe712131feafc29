//! Access tokens: what they are, who gives them, and the one cache in front of a giver.
//!
//! Owns lifetime, renewal, single flight, and the pause after a failure. How a token is got is `maskinporten`'s and
//! `exchange`'s.

use std::{
    future::Future,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::Instant};

use super::{
    fault::{self, Advice, Kind},
    problem::Words,
};
use crate::{
    backoff::Backoff,
    clock::{Clock, Timestamp},
    secret::{self, SecretError},
};

/// A token is renewed at least this long before its end, if it lives that long: Altinn allows no
/// difference between the clocks.
const EARLY: Duration = Duration::from_secs(60);
/// After a renewal that failed, a token that still holds is used this long before the next try.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
/// After a failure nobody asks for so long, and then for ever longer, however many want a token.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// A bearer token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    secret: SecretString,
    expires: Timestamp,
}

impl AccessToken {
    /// A token that holds until `expires`.
    pub fn new(secret: SecretString, expires: Timestamp) -> Self {
        Self { secret, expires }
    }

    /// What goes into `Authorization`.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// When it ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key's or the gateway key's file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file holds no key that signs RS256, or no certificate of it.
    #[error("{file} {reason}")]
    Key {
        /// The file, as configured.
        file: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// No answer.
    #[error("{who} cannot be reached: {reason}")]
    Unreachable {
        /// `Maskinporten` or `Altinn's token exchange`.
        who: &'static str,
        /// Why.
        reason: String,
    },
    /// An answer that is no.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// A success without a usable token in it.
    #[error("{who} answered without a usable token: {fault}")]
    Malformed {
        /// As above.
        who: &'static str,
        /// What is wrong; never the content.
        fault: &'static str,
    },
    /// Nobody was asked: it failed a moment ago, and it is too early to ask again.
    #[error(transparent)]
    Earlier(Arc<TokenError>),
}

/// What an authorization server said no with (RFC 6749 section 5.2 and Maskinporten's codes).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", self.said(), self.advised())]
pub struct Refused {
    /// `Maskinporten` or `Altinn's token exchange`.
    pub who: &'static str,
    /// The status.
    pub status: StatusCode,
    /// `error`: `invalid_grant`, `invalid_scope`, ….
    pub error: Option<String>,
    /// Maskinporten's code, as in its list of errors: `MP-121`.
    pub code: Option<String>,
    /// `error_uri`: where the code is explained.
    pub uri: Option<String>,
    /// `error_description`, and the trace id.
    pub words: Words,
    /// What this side can see of the cause.
    pub hint: Option<&'static str>,
    /// What it means, if it is one of those that are known.
    pub advice: Option<&'static Advice>,
    /// How long to stay away.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// Who said no, how, and in which words.
    pub fn said(&self) -> String {
        let Self { who, words, hint, .. } = self;
        format!("{who} refused ({}): {words}{}", self.label(), hint.unwrap_or_default())
    }

    fn advised(&self) -> String {
        self.advice.map_or_else(String::new, |advice| format!(" ({advice})"))
    }

    fn label(&self) -> String {
        let parts = [Some(self.status.as_str()), self.error.as_deref(), self.code.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl TokenError {
    /// How long the other side asked us to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refused().and_then(|refused| refused.retry_after)
    }

    /// Maskinporten's code.
    pub fn code(&self) -> Option<&str> {
        self.refused().and_then(|refused| refused.code.as_deref())
    }

    /// What the other side's support asks for.
    pub fn trace_id(&self) -> Option<&str> {
        self.refused().and_then(|refused| refused.words.trace_id.as_deref())
    }

    /// Who can end it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Secret(_) | Self::Key { .. } => Kind::Configuration,
            Self::Unreachable { .. } | Self::Malformed { .. } => Kind::Passing,
            Self::Refused(refused) => {
                refused.advice.map_or(fault::of_status(refused.status), |advice| advice.kind)
            }
            Self::Earlier(error) => error.kind(),
        }
    }

    /// What the other side said no with.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Earlier(error) => error.refused(),
            Self::Secret(_)
            | Self::Key { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. } => None,
        }
    }
}

/// Who gives tokens. Each call asks for a new one.
pub trait TokenSource: Send + Sync + 'static {
    /// A token that holds now.
    fn token(&self) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;
}

/// A source with a memory for one token: renewed early, and by one caller at a time.
#[derive(Debug)]
pub struct Cached<T> {
    inner: T,
    clock: Clock,
    slot: Mutex<Option<Held>>,
    failed: SyncMutex<Option<Failed>>,
}

/// What failed last, how often in a row, and until when nobody asks.
#[derive(Debug)]
struct Failed {
    error: Arc<TokenError>,
    times: u32,
    until: Instant,
}

#[derive(Debug)]
struct Held {
    token: AccessToken,
    renew: Timestamp,
}

impl<T: TokenSource> Cached<T> {
    /// An empty cache before `inner`.
    pub fn new(inner: T, clock: Clock) -> Self {
        Self { inner, clock, slot: Mutex::new(None), failed: SyncMutex::default() }
    }

    /// The source behind it.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The token, new or kept. Who waits while another asks gets what that one got.
    ///
    /// After a failure the next ones are told the same without asking, for a while that grows with
    /// each failure: many callers make no storm.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        let mut slot = self.slot.lock().await;
        if let Some(held) = &*slot
            && self.clock.now() < held.renew
        {
            return Ok(held.token.clone());
        }
        if let Some(error) = self.too_early() {
            return Err(error);
        }
        let asked = self.clock.now();
        match self.inner.token().await {
            Ok(token) => {
                self.forgive();
                let renew = renew_at(asked, token.expires);
                *slot = Some(Held { token: token.clone(), renew });
                Ok(token)
            }
            Err(error) => match &mut *slot {
                // Renewal begins early so that it may fail for a while.
                Some(held) if self.clock.now() < held.token.expires => {
                    tracing::warn!(%error, trace_id = error.trace_id(), "cannot renew a token yet");
                    held.renew = self.clock.now().after(RENEWAL_PAUSE).min(held.token.expires);
                    Ok(held.token.clone())
                }
                _ => {
                    *slot = None;
                    Err(self.failed(error))
                }
            },
        }
    }

    /// Forgets the last failure: there is a reason to ask at once, such as a new key.
    pub fn forgive(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn too_early(&self) -> Option<TokenError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = failed.as_ref().filter(|failed| Instant::now() < failed.until)?;
        Some(TokenError::Earlier(Arc::clone(&recent.error)))
    }

    fn failed(&self, error: TokenError) -> TokenError {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = failed.as_ref().map_or(0, |failed| failed.times).saturating_add(1);
        let pause = Backoff::try_new(FIRST_PAUSE, LAST_PAUSE, 2.0)
            .map_or(LAST_PAUSE, |backoff| backoff.delay(times, fastrand::f64()))
            .max(error.retry_after().unwrap_or_default());
        tracing::debug!(kind = ?error.kind(), times, ?pause, "no token");
        let error = Arc::new(error);
        let until = Instant::now() + pause;
        *failed = Some(Failed { error: Arc::clone(&error), times, until });
        TokenError::Earlier(error)
    }

    /// Forgets this very token, because it was refused. However many callers were refused with it,
    /// it is renewed once.
    pub async fn invalidate(&self, refused: &AccessToken) {
        let mut slot = self.slot.lock().await;
        let same =
            |held: &mut Held| secret::matches(&refused.secret, held.token.secret.expose_secret());
        drop(slot.take_if(same));
    }
}

/// After four fifths of its life, a minute before its end, whichever comes first; but never
/// before half of it.
fn renew_at(asked: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.since(asked);
    expires.before((life / 5).max(EARLY.min(life / 2)))
}

#[cfg(test)]
mod tests;
