//! The one cache in front of who gives tokens.
//!
//! Owns renewal, single flight, and the pauses after a failure and after a refused token.

use std::{
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError},
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
/// After a renewal that failed, a token that still holds is used this long before the next try, or
/// for as long as after any failure.
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
    pauses: SyncMutex<Pauses>,
}

/// Why nobody asks now.
#[derive(Debug, Default)]
struct Pauses {
    failed: Option<Failed>,
    refused: Option<Failed>,
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
        Self { inner, clock, slot: Mutex::new(None), pauses: SyncMutex::default() }
    }

    /// The source behind it.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The token, new or kept. Who waits while another asks gets what that one got.
    ///
    /// After a failure the next ones are told the same without asking, for a while that grows with
    /// each failure: many callers make no storm. A token that still holds is used meanwhile.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        let mut slot = self.slot.lock().await;
        let now = self.clock.now();
        let early = self.too_early();
        if let Some(held) = &*slot
            && (now < held.renew || (early.is_some() && now < held.token.expires()))
        {
            return Ok(held.token.clone());
        }
        if let Some(error) = early {
            return Err(error);
        }
        match self.inner.token().await {
            Ok(token) => {
                self.pauses().failed = None;
                let renew = renew_at(now, token.expires());
                *slot = Some(Held { token: token.clone(), renew });
                Ok(token)
            }
            Err(error) => match &*slot {
                // Renewal begins early so that it may fail for a while.
                Some(held) if self.clock.now() < held.token.expires() => {
                    tracing::warn!(%error, trace_id = error.trace_id(), "cannot renew a token yet");
                    self.failed(error, RENEWAL_PAUSE);
                    Ok(held.token.clone())
                }
                _ => {
                    *slot = None;
                    Err(self.failed(error, Duration::ZERO))
                }
            },
        }
    }

    /// Forgets the last failures: there is a reason to ask at once, such as a new key.
    pub fn forgive(&self) {
        *self.pauses() = Pauses::default();
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_early(&self) -> Option<TokenError> {
        let pauses = self.pauses();
        let mut recent = [&pauses.failed, &pauses.refused].into_iter().flatten();
        let recent = recent.find(|failed| Instant::now() < failed.until)?;
        Some(TokenError::Earlier(Arc::clone(&recent.error)))
    }

    fn failed(&self, error: TokenError, at_least: Duration) -> TokenError {
        let failed = &mut self.pauses().failed;
        let times = failed.as_ref().map_or(0, |failed| failed.times).saturating_add(1);
        let pause = pause(times).max(at_least).max(error.retry_after().unwrap_or_default());
        let (ended_by, pause_ms) = (error.kind().ended_by(), pause.as_millis());
        tracing::debug!(ended_by, times, pause_ms, "no token");
        let error = Arc::new(error);
        let until = Instant::now() + pause;
        *failed = Some(Failed { error: Arc::clone(&error), times, until });
        TokenError::Earlier(error)
    }

    /// Forgets this very token, because it was refused. However many callers were refused with it,
    /// it is renewed once. If the next one is refused, too, there is a pause before each further
    /// one, until one is accepted.
    pub async fn invalidate(&self, refused: &AccessToken) {
        let mut slot = self.slot.lock().await;
        let same = |held: &mut Held| {
            secret::matches(refused.secret(), held.token.secret().expose_secret())
        };
        if slot.take_if(same).is_none() {
            return;
        }
        let refused = &mut self.pauses().refused;
        let times = refused.as_ref().map_or(0, |refused| refused.times).saturating_add(1);
        let wait = if times > 1 { pause(times - 1) } else { Duration::ZERO };
        let error = Arc::new(TokenError::NotAccepted);
        *refused = Some(Failed { error, times, until: Instant::now() + wait });
    }

    /// A token was good for a call.
    pub fn accepted(&self) {
        self.pauses().refused = None;
    }
}

fn pause(times: u32) -> Duration {
    Backoff::try_new(FIRST_PAUSE, LAST_PAUSE, 2.0)
        .map_or(LAST_PAUSE, |backoff| backoff.random_delay(times))
}

/// After four fifths of its life, a minute before its end, whichever comes first; but never
/// before half of it.
fn renew_at(asked: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.since(asked);
    expires.before((life / 5).max(EARLY.min(life / 2)))
}

#[cfg(test)]
mod tests;
