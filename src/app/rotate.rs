//! A new secret for a subscription's hook.
//!
//! Owns the first step only: the secret is written, and both are accepted. The rest is the
//! reconciliation's, which sees that Altinn has another endpoint than is wanted, now or at the next
//! start.

use std::sync::Arc;

use tokio::sync::Notify;

use super::hooks::Secrets;
use crate::{
    admin::{RotateError, RotateFn},
    config::Config,
    name::HookName,
    source::secrets::HookSecrets,
};

/// Writes a new secret into the data directory, for a daemon to take in.
pub fn write_new_secret(config: &Config, name: &HookName) -> Result<(), RotateError> {
    let subscription = config.subscriptions.get(name).ok_or(RotateError::Unknown)?;
    if let Some(file) = &subscription.secret_file {
        return Err(RotateError::Operator(format!(
            "the secret is yours, not brevdue's: put a new line before the others in the file of \
             subscriptions.{name}.secret_file, {}, and send the daemon a SIGHUP. Take the old line away 48 hours after its \
             subscription is gone (brevdue subscriptions list)",
            file.path().display()
        )));
    }
    let rotated = HookSecrets::rotate(&config.data_dir, name);
    rotated.map_err(|error| RotateError::Failed(error.to_string()))
}

/// What the admin API does.
pub(super) fn rotation(config: &Config, secrets: &Secrets, wake: &Arc<Notify>) -> RotateFn {
    let (config, secrets, wake) = (config.clone(), secrets.clone(), Arc::clone(wake));
    Arc::new(move |name| {
        write_new_secret(&config, name)?;
        if let Some(secrets) = secrets.get(name) {
            secrets.reload().map_err(|error| RotateError::Failed(error.to_string()))?;
        }
        tracing::info!(subscription = %name, "a new secret was made; the old one is still accepted");
        wake.notify_one();
        Ok(())
    })
}
