//! SIGHUP: certificates and secret files are read anew, file handlers reopen.

use std::{fmt, sync::Arc};

use tokio::sync::Notify;

use super::{handlers::Handlers, hooks::Hooks, reloadable::Reloadable};
use crate::{
    altinn::{AltinnTokens, events_api::EventsApi},
    error_chain::in_one_line,
    source::secrets::HookSecrets,
};

/// What can be read anew while the daemon runs.
pub struct Reload {
    /// With the words for each.
    pub(super) parts: Vec<(String, Arc<dyn Reloadable>)>,
    /// These reopen.
    pub(super) handlers: Handlers,
    /// Wakes the reconciliation: a new secret is a new endpoint for Altinn.
    pub(super) wake: Arc<Notify>,
}

/// Everything that is read from files, but for the handlers.
pub(super) fn parts(
    hooks: &Hooks,
    events: Option<EventsApi<AltinnTokens>>,
    token: Option<Arc<HookSecrets>>,
) -> Vec<(String, Arc<dyn Reloadable>)> {
    let mut parts = hooks.reloadable();
    if let Some(events) = events {
        parts.push(("the keys for Altinn".to_owned(), Arc::new(events)));
    }
    if let Some(token) = token {
        parts.push(("the token of the admin API".to_owned(), token));
    }
    parts
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    /// Reads everything anew; what cannot be read stays as it was, and that is said.
    pub fn all(&self) {
        for (what, part) in &self.parts {
            match part.reload() {
                Ok(()) => tracing::info!(%what, "read anew"),
                Err(error) => {
                    tracing::error!(%what, error = in_one_line(error.as_ref()), "kept as it was");
                }
            }
        }
        for handler in self.handlers.values() {
            handler.reopen();
        }
        self.wake.notify_one();
    }
}
