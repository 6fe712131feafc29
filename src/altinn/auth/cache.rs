//! The one cache in front of who gives tokens.
//!
//! Owns renewal, single flight, and the pause after a failure.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::{sync::Mutex, time::Instant};

use super::token::{AccessToken, TokenError, TokenSource};
use crate::{
    backoff::Backoff,
    clock::{Clock, Timestamp},
    secret,
};

/// A token is renewed at least this long before its end, if it lives that long: Altinn allows no
/// difference between the clocks.
const EARLY: Duration = Duration::from_secs(60);
/// After a renewal that failed, a token that still holds is used this long before the next try.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
/// After a failure nobody asks for so long, and then for ever longer, however many want a token.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// A source with a memory for one token: renewed early, and by one caller at a time.
#[derive(Debug)]
pub struct TokenCache<T> {
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

impl<T: TokenSource> TokenCache<T> {
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
                let renew = renew_at(asked, token.expires());
                *slot = Some(Held { token: token.clone(), renew });
                Ok(token)
            }
            Err(error) => match &mut *slot {
                // Renewal begins early so that it may fail for a while.
                Some(held) if self.clock.now() < held.token.expires() => {
                    tracing::warn!(%error, trace_id = error.trace_id(), "cannot renew a token yet");
                    held.renew = self.clock.now().after(RENEWAL_PAUSE).min(held.token.expires());
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
            .map_or(LAST_PAUSE, |backoff| backoff.random_delay(times))
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
        let same = |held: &mut Held| {
            secret::matches(refused.secret(), held.token.secret().expose_secret())
        };
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
