//! SIGHUP: certificates and secret files are read anew, file handlers reopen.
//!
//! Owns that a file which is being written meanwhile is not taken for a whole one, and that who reloads waits for no
//! disk: the signal to stop is heard all the same.

mod settling;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use self::settling::{BETWEEN, Look, Verdict, verdict};
use super::{
    altinn::{GatewayKey, SigningKey},
    handlers::Handlers,
    hooks::Hooks,
    reloadable::{Named, Part, Reloadable, files_below},
};
use crate::{
    altinn::{AltinnTokens, events_api::EventsApi},
    config::Config,
    error_chain::in_one_line,
    source::secrets::HookSecrets,
};

/// A round of looks that takes longer than this is told.
const SLOW: Duration = Duration::from_secs(30);

/// What can be read anew while the daemon runs.
pub struct Reload {
    pub(super) parts: Vec<Part>,
    /// These reopen.
    pub(super) handlers: Handlers,
    /// Wakes the reconciliation: a new secret is a new endpoint for Altinn.
    pub(super) wake: Arc<Notify>,
}

/// Everything that is read from files, but for the handlers.
pub(super) fn parts(
    config: &Config,
    hooks: &Hooks,
    events: Option<&EventsApi<AltinnTokens>>,
    token: Option<Arc<HookSecrets>>,
) -> Vec<Part> {
    let mut parts = hooks.reloadable(config);
    let mut add = |what: &str, key: &str, of: Arc<dyn Reloadable>| {
        parts.push(Part { what: what.to_owned(), files: files_below(config, key), of });
    };
    if let Some(events) = events {
        let (signing, gateway) = (SigningKey(events.clone()), GatewayKey(events.clone()));
        add("the key for Maskinporten", "altinn.maskinporten", Arc::new(signing));
        add("the key of Altinn's gateway", "altinn.api_key_file", Arc::new(gateway));
    }
    if let Some(token) = token {
        add("the token of the admin API", "admin.token_file", token);
    }
    // A sender without a secret, a gateway without a key.
    parts.retain(|part| !part.files.is_empty());
    parts
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

/// A part that has not been read yet, by its number, and what was last seen of its files.
struct Waiting {
    part: usize,
    seen: Vec<Look>,
}

impl Reload {
    /// Reads everything anew; what cannot be read stays as it was, and that is said.
    pub async fn all(self: Arc<Self>) {
        for handler in self.handlers.values() {
            handler.reopen();
        }
        let began = Instant::now();
        let mut waiting: Vec<_> =
            (0..self.parts.len()).map(|part| Waiting { part, seen: Vec::new() }).collect();
        loop {
            let (before, waited) = (waiting.len(), began.elapsed());
            let reload = Arc::clone(&self);
            let mut round = spawn_blocking(move || reload.round(waiting, waited));
            // A disk can hang.
            let ended = if let Ok(ended) = timeout(SLOW, &mut round).await {
                ended
            } else {
                tracing::warn!(
                    "the disk does not answer while files are read anew: until it does, SIGHUP does nothing"
                );
                round.await
            };
            waiting = match ended {
                Ok(left) => left,
                Err(error) => {
                    tracing::error!(%error, "what was not read anew is kept as it was");
                    return;
                }
            };
            if waiting.len() < before {
                self.wake.notify_one();
            }
            if waiting.is_empty() {
                return;
            }
            sleep(BETWEEN).await;
        }
    }

    /// Looks at the files of all these parts, and reads what has settled; what has not is looked at again.
    fn round(&self, waiting: Vec<Waiting>, waited: Duration) -> Vec<Waiting> {
        let later = |one: Waiting| {
            let part = self.parts.get(one.part)?;
            let (seen, verdict) = part.try_once(&one.seen, waited);
            match verdict {
                Verdict::Believe => None,
                Verdict::LookAgain => Some(Waiting { seen, ..one }),
                Verdict::Leave(number) => {
                    part.leave(number);
                    None
                }
            }
        };
        waiting.into_iter().filter_map(later).collect()
    }
}

impl Part {
    fn look(&self) -> Vec<Look> {
        self.files.iter().map(|Named { path, .. }| Look::at(path)).collect()
    }

    /// Reads the files if they are as they were; what is read is in force only if they still are after that.
    fn try_once(&self, before: &[Look], waited: Duration) -> (Vec<Look>, Verdict) {
        let seen = self.look();
        let first = verdict(before, &seen, waited);
        if first != Verdict::Believe {
            return (seen, first);
        }
        let read = self.of.read_anew();
        let after = self.look();
        let second = verdict(&seen, &after, waited);
        if second == Verdict::Believe {
            let what = &self.what;
            match read {
                Ok(put_in_force) => {
                    put_in_force();
                    tracing::info!(%what, "read anew");
                }
                Err(error) => {
                    tracing::error!(%what, error = in_one_line(error.as_ref()), "kept as it was");
                }
            }
        }
        (after, second)
    }

    /// Says that a file is still being written.
    fn leave(&self, number: usize) {
        let file = self.files.get(number);
        let path = file.map(|file| file.path.display());
        tracing::warn!(
            what = %self.what,
            setting = file.map(|file| file.key.as_str()),
            file = path.map(tracing::field::display),
            "kept as it was: the file is still being written; put a whole one in its place by renaming, and send SIGHUP \
             again"
        );
    }
}

#[cfg(test)]
mod tests;
