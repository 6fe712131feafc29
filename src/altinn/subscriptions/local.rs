//! This store's side of its subscriptions: what it wants, what it accepts, and what it remembers.
//!
//! Owns how a list of Altinn's goes into the history, and that a request is in the history before it
//! is made. What is done about a difference is `plan`'s and `executor`'s.

use std::{fmt, sync::Arc, time::Duration};

use url::Url;

use super::{
    api::Observed,
    history::{History, HookCode},
    history_file::{HistoryError, HistoryFile},
    ownership::split,
    plan::{Change, Desired},
    public_url_probe::PublicUrlProbe,
};
use crate::clock::Timestamp;

/// What is wanted now: secrets can change while the daemon runs.
pub type DesiredFn = Arc<dyn Fn() -> Vec<Desired> + Send + Sync>;

/// Which codes are accepted now.
pub type CodesFn = Arc<dyn Fn() -> Vec<HookCode> + Send + Sync>;

/// Told of what is remembered, so that hooks and codes that are forgotten are not answered on. It
/// may write files.
pub type RememberedFn = Arc<dyn Fn(&History) + Send + Sync>;

/// This store's side.
pub struct Local {
    /// What is wanted.
    pub desired: DesiredFn,
    /// Which codes the hooks of what is wanted accept.
    pub codes: CodesFn,
    /// Told after each look.
    pub remembered: RememberedFn,
    /// Hooks are under it.
    pub public_url: Url,
    /// How long a replaced subscription stays.
    pub overlap: Duration,
    /// What outlives the process.
    pub history: HistoryFile,
    /// Asks our own endpoint before Altinn is told it; `None` leaves that out.
    pub probe: Option<PublicUrlProbe>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("overlap", &self.overlap).finish_non_exhaustive()
    }
}

impl Local {
    /// Takes what Altinn has into the history, durably, and tells who answers the hooks.
    pub(super) async fn observe(
        &self,
        observed: &Arc<[Observed]>,
        now: Timestamp,
    ) -> Result<History, HistoryError> {
        let (codes, public_url) = ((self.codes)(), self.public_url.clone());
        let rows = Arc::clone(observed);
        let change = move |history: &mut History| {
            history.observe(&codes, &split(&rows, &public_url).0, now);
            history.clone()
        };
        let history = self.history.update(change).await?;
        let (remembered, told) = (Arc::clone(&self.remembered), history.clone());
        self.history.then(move || remembered(&told)).await?;
        Ok(history)
    }

    /// Notes, durably and before it is done, that these subscriptions are asked for.
    pub(super) async fn note_asked(
        &self,
        history: &History,
        posts: &[&Change],
    ) -> Result<(), HistoryError> {
        let mut codes = (self.codes)();
        codes.retain(|code| {
            let asked = posts.iter().any(|change| change.name == code.name);
            code.current && asked && !history.asked(code.name.as_str(), &code.code)
        });
        if codes.is_empty() {
            return Ok(());
        }
        let note = move |history: &mut History| {
            for code in &codes {
                history.asks(&code.name, &code.code);
            }
        };
        self.history.update(note).await
    }
}
