//! The client side of Altinn from the configuration: for the daemon, and for commands that ask
//! once.

use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;
use url::Url;

use super::{
    hooks::{self, Secrets},
    reload::Reloadable,
};
use crate::{
    altinn::{
        self, AltinnTokens,
        api::{Events, Spec},
        plan::Desired,
        reconcile::{DesiredFn, Reconciler, Timing},
    },
    clock::Clock,
    config::Config,
    metrics::Metrics,
    name::HookName,
    source::secrets::HookSecrets,
};

/// What keeps Altinn's subscriptions as they should be.
pub(super) type Reconciliation = Reconciler<AltinnTokens>;

impl Reloadable for Events<AltinnTokens> {
    fn reload(&self) -> anyhow::Result<()> {
        Ok(Self::reload(self)?)
    }
}

/// The client, if there is an `[altinn]`. Reads the keys, and asks nobody.
pub(super) fn connect(
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<Option<Events<AltinnTokens>>> {
    let connect = |altinn| altinn::connect(altinn, clock.clone(), metrics.clone());
    config.altinn.as_ref().map(connect).transpose().context("altinn")
}

/// What keeps the subscriptions, if there are any.
pub(super) fn reconciliation(
    config: &Config,
    events: Option<&Events<AltinnTokens>>,
    secrets: &Secrets,
) -> anyhow::Result<Option<Reconciliation>> {
    let (Some(events), Some(altinn)) = (events, &config.altinn) else { return Ok(None) };
    if config.subscriptions.is_empty() {
        return Ok(None);
    }
    let timing = Timing::from_interval(altinn.reconcile_interval);
    let timing = timing.context("altinn.reconcile_interval")?;
    let public_url = config.server.public_url.clone();
    let desired = desired(config, secrets);
    Ok(Some(Reconciler::new(events.clone(), desired, public_url, timing)))
}

/// For a command that asks Altinn once: the client, and what is wanted.
pub fn ask_once(config: &Config) -> anyhow::Result<(Events<AltinnTokens>, Vec<Desired>)> {
    let events = connect(config, &Clock::System, &Metrics::default())?;
    let events = events.context("there is no [altinn] in the configuration")?;
    let wanted = desired(config, &hooks::secrets(config)?);
    Ok((events, wanted()))
}

/// What Altinn should have, with the secrets of the moment.
fn desired(config: &Config, secrets: &Secrets) -> DesiredFn {
    let public_url = config.server.public_url.clone();
    let subscriptions = config.subscriptions.clone();
    let secrets = secrets.clone();
    Arc::new(move || {
        let one = |(name, secrets): (&HookName, &Arc<HookSecrets>)| {
            let subscription = subscriptions.get(name)?;
            let endpoint = endpoint(&public_url, name, secrets);
            let spec = Spec {
                endpoint,
                resource: subscription.resource.clone(),
                subject: subscription.subject.clone(),
                ty: subscription.ty.clone(),
                include_subunits: subscription.include_subunits,
            };
            Some(Desired { name: name.clone(), spec })
        };
        secrets.iter().filter_map(one).collect()
    })
}

/// `{public_url}/hooks/{name}?code={secret}`.
fn endpoint(public_url: &Url, name: &HookName, secrets: &HookSecrets) -> Url {
    let mut url = public_url.clone();
    url.set_path(&format!("{}/hooks/{name}", public_url.path().trim_end_matches('/')));
    url.query_pairs_mut().append_pair("code", secrets.current().expose_secret());
    url
}
