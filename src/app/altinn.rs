//! The client side of Altinn from the configuration: for the daemon, and for commands that ask
//! once.

use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;
use url::Url;

use super::{
    hooks::{self, Secrets},
    reloadable::{PutInForce, Reloadable},
};
use crate::{
    altinn::{
        self, AltinnTokens,
        events_api::EventsApi,
        subscriptions::{
            api::Spec,
            history::{History, HookCode},
            history_file::HistoryFile,
            local::{DesiredFn, Local},
            plan::Desired,
            public_url_probe::{Challenge, PublicUrlProbe},
            reconciler::{Reconciler, timing::Timing},
        },
    },
    clock::Clock,
    config::{self, Config},
    metrics::Metrics,
    name::HookName,
    source::secrets::HookSecrets,
};

/// What keeps Altinn's subscriptions as they should be.
pub(super) type Reconciliation = Reconciler<AltinnTokens>;

/// The client's key and the certificate of it, of the client that has them.
pub(super) struct SigningKey(pub(super) EventsApi<AltinnTokens>);

/// The key of Altinn's gateway, of the client that has it.
pub(super) struct GatewayKey(pub(super) EventsApi<AltinnTokens>);

impl Reloadable for SigningKey {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        Ok(Box::new(self.0.signing_key_anew()?))
    }
}

impl Reloadable for GatewayKey {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        Ok(Box::new(self.0.gateway_key_anew()?))
    }
}

/// The client, if there is an `[altinn]`. Reads the keys, and asks nobody.
pub(super) fn connect(
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<Option<EventsApi<AltinnTokens>>> {
    let connect = |altinn| altinn::connect(altinn, clock.clone(), metrics.clone());
    config.altinn.as_ref().map(connect).transpose().context("altinn")
}

/// What keeps the subscriptions, if there are or were any.
pub(super) fn reconciliation(
    config: &Config,
    events: Option<&EventsApi<AltinnTokens>>,
    hooks: &hooks::Hooks,
    challenge: &Arc<Challenge>,
) -> anyhow::Result<Option<Reconciliation>> {
    let (Some(events), Some(altinn)) = (events, &config.altinn) else { return Ok(None) };
    if config.subscriptions.is_empty() && hooks.old.is_empty() {
        return Ok(None);
    }
    let timing = Timing::from_interval(altinn.reconcile_interval);
    let timing = timing.context("altinn.reconcile_interval")?;
    let mut local = local(config, altinn, &hooks.secrets);
    let (secrets, old) = (hooks.secrets.clone(), hooks.old.clone());
    local.remembered = Arc::new(move |history| {
        prune(&secrets, history);
        let mut remembered = history.hooks();
        for (name, codes) in &old {
            codes.set(remembered.remove(name).unwrap_or_default());
        }
    });
    if altinn.self_proof {
        let public_url = config.server.public_url.clone();
        let probe =
            PublicUrlProbe::new(public_url, altinn.ca_file.as_deref(), Arc::clone(challenge));
        local.probe = Some(probe.context("the client for altinn.self_proof")?);
    }
    Ok(Some(Reconciler::new(events.clone(), local, timing)))
}

/// For a command that asks Altinn once.
pub fn ask_once(config: &Config) -> anyhow::Result<EventsApi<AltinnTokens>> {
    let events = connect(config, &Clock::System, &Metrics::default())?;
    events.context(NO_ALTINN)
}

const NO_ALTINN: &str = "there is no [altinn] in the configuration";

/// What is wanted of Altinn, for a command that compares once and writes nothing.
pub fn look(config: &Config) -> anyhow::Result<Local> {
    let altinn = config.altinn.as_ref().context(NO_ALTINN)?;
    Ok(local(config, altinn, &hooks::secrets(config, HookSecrets::look)?))
}

/// The same for a command that carries it out: secrets that are not there are made.
pub fn side(config: &Config) -> anyhow::Result<Local> {
    let altinn = config.altinn.as_ref().context(NO_ALTINN)?;
    Ok(local(config, altinn, &hooks::secrets(config, HookSecrets::open)?))
}

/// Without a proof of the endpoint, and without anyone who is told what is remembered: that is the
/// daemon's.
fn local(config: &Config, altinn: &config::Altinn, secrets: &Secrets) -> Local {
    let held = secrets.clone();
    Local {
        desired: desired(config, secrets),
        codes: Arc::new(move || {
            held.iter().flat_map(|(name, secrets)| codes(name, secrets)).collect()
        }),
        remembered: Arc::new(|_| {}),
        public_url: config.server.public_url.clone(),
        overlap: altinn.overlap,
        history: HistoryFile::new(&config.data_dir),
        probe: None,
    }
}

fn codes(name: &HookName, secrets: &HookSecrets) -> Vec<HookCode> {
    let codes = secrets.digests().into_iter().enumerate();
    let held = |(at, code)| HookCode { name: name.clone(), code, current: at == 0 };
    codes.map(held).collect()
}

/// Old codes that are not remembered any more are not accepted any more.
fn prune(secrets: &Secrets, history: &History) {
    for (name, secrets) in secrets {
        if let Err(error) = secrets.prune(|code| history.remembers(name, code)) {
            tracing::error!(subscription = %name, %error, "cannot drop an old secret");
        }
    }
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
