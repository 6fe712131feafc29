//! Hooks from their configuration: secrets, sources and certificates. To add a kind of source: one
//! arm here.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use anyhow::Context;
use tokio::sync::Notify;

use super::{
    files,
    reloadable::{Named, Part, PutInForce, Reloadable, files_below},
};
use crate::{
    altinn::subscriptions::history_file::HistoryFile,
    clock::Clock,
    config::{Config, SourceAuth, Subscription},
    name::HookName,
    secret::{SecretError, SecretFile},
    server::tls::Certificates,
    source::{
        Source,
        altinn::Altinn,
        cloudevents::{Auth, CloudEvents},
        membership::Membership,
        secrets::{Accepts, HookSecrets, OldCodes},
    },
};

/// By the names of their subscriptions.
pub(super) type Secrets = BTreeMap<HookName, Arc<HookSecrets>>;

/// Everything about the hooks that is read from files.
pub(super) struct Hooks {
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) secrets: Secrets,
    /// Of names that are not configured any more, for as long as Altinn may push to them.
    pub(super) old: BTreeMap<HookName, Arc<OldCodes>>,
    generic: BTreeMap<HookName, Arc<CloudEvents>>,
}

impl Reloadable for Certificates {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        let put_in_force = Self::read_anew(self)?;
        Ok(Box::new(|| {
            put_in_force();
            for warning in self.warnings() {
                tracing::warn!(setting = "server.tls.certificate_file", "{warning}");
            }
        }))
    }
}

impl Reloadable for HookSecrets {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        Ok(Box::new(Self::read_anew(self)?))
    }
}

impl Reloadable for CloudEvents {
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>> {
        match self.auth.secrets() {
            Some(secrets) => Ok(Box::new(secrets.read_anew()?)),
            None => Ok(Box::new(|| {})),
        }
    }
}

impl Hooks {
    /// Reads every secret, key and certificate; one that is missing or bad ends the start.
    pub(super) fn build(config: &Config, clock: &Clock) -> anyhow::Result<Self> {
        let certificates = match &config.server.tls {
            None => None,
            Some(tls) => {
                let audience = files::audience(&config.files);
                let loaded = Certificates::load(files::files(tls), audience, clock.clone());
                Some(loaded.context("server.tls")?)
            }
        };
        let mut generic = BTreeMap::new();
        for (name, source) in &config.sources {
            let auth = auth(&source.auth, clock).with_context(|| format!("sources.{name}.auth"))?;
            let allowed_origins = source.allowed_origins.clone();
            let source = CloudEvents { name: name.clone(), auth, allowed_origins };
            generic.insert(name.clone(), Arc::new(source));
        }
        let secrets = secrets(config, HookSecrets::open)?;
        Ok(Self { certificates, secrets, old: old(config), generic })
    }

    /// The sources by the names in their URLs; `validated` wakes who waits for a validation.
    pub(super) fn sources(
        &self,
        config: &Config,
        validated: &Arc<Notify>,
    ) -> BTreeMap<HookName, Arc<dyn Source>> {
        let subscriptions = memberships(config);
        let altinn = |name: &HookName, secrets: Arc<dyn Accepts>| -> Arc<dyn Source> {
            Arc::new(Altinn {
                name: name.clone(),
                secrets,
                subscriptions: Arc::clone(&subscriptions),
                validated: Arc::clone(validated),
            })
        };
        let mut sources: BTreeMap<HookName, Arc<dyn Source>> = BTreeMap::new();
        for (name, secrets) in &self.secrets {
            let secrets: Arc<dyn Accepts> = Arc::<HookSecrets>::clone(secrets);
            sources.insert(name.clone(), altinn(name, secrets));
        }
        for (name, codes) in &self.old {
            sources.insert(name.clone(), altinn(name, Arc::<OldCodes>::clone(codes)));
        }
        for (name, source) in &self.generic {
            sources.insert(name.clone(), Arc::<CloudEvents>::clone(source));
        }
        sources
    }

    /// What SIGHUP reads anew, with the words for it.
    pub(super) fn reloadable(&self, config: &Config) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(certificates) = &self.certificates {
            let of = Arc::<Certificates>::clone(certificates);
            let files = files_below(config, "server.tls");
            parts.push(Part { what: "the certificate".to_owned(), files, of });
        }
        for (name, secrets) in &self.secrets {
            let mut files = files_below(config, &format!("subscriptions.{name}.secret_file"));
            if files.is_empty() {
                let path = secrets.path().to_owned();
                files.push(Named { key: "data_dir".to_owned(), path });
            }
            let of = Arc::<HookSecrets>::clone(secrets);
            parts.push(Part { what: format!("the secret of {name}"), files, of });
        }
        for (name, source) in &self.generic {
            let files = files_below(config, &format!("sources.{name}.auth"));
            let of = Arc::<CloudEvents>::clone(source);
            parts.push(Part { what: format!("the secret of {name}"), files, of });
        }
        parts
    }
}

/// Opens the secrets of a hook, or only looks at them.
type Open = fn(Option<&SecretFile>, &Path, &HookName) -> Result<HookSecrets, SecretError>;

/// The secrets of all subscriptions' hooks; `open` says whether those that are not there are made.
pub(super) fn secrets(config: &Config, open: Open) -> anyhow::Result<Secrets> {
    let one = |(name, subscription): (&HookName, &Subscription)| {
        let file = subscription.secret_file.as_ref();
        let opened = open(file, &config.data_dir, name);
        let opened = opened.with_context(|| format!("the secret of subscriptions.{name}"))?;
        Ok((name.clone(), Arc::new(opened)))
    };
    config.subscriptions.iter().map(one).collect()
}

/// What is remembered of names that have no hook in the configuration.
fn old(config: &Config) -> BTreeMap<HookName, Arc<OldCodes>> {
    if config.altinn.is_none() {
        return BTreeMap::new();
    }
    let mut hooks = HistoryFile::new(&config.data_dir).read_blocking().hooks();
    let configured = |name: &HookName| {
        config.subscriptions.contains_key(name) || config.sources.contains_key(name)
    };
    hooks.retain(|name, _| !configured(name));
    let one = |(name, codes)| {
        let old = OldCodes::default();
        old.set(codes);
        (name, Arc::new(old))
    };
    hooks.into_iter().map(one).collect()
}

fn auth(auth: &SourceAuth, clock: &Clock) -> anyhow::Result<Auth> {
    Ok(match auth {
        SourceAuth::Bearer { file } => Auth::Bearer(HookSecrets::bearer(file)?),
        SourceAuth::StandardWebhooks { file, tolerance } => Auth::StandardWebhooks {
            keys: HookSecrets::signing(file)?,
            tolerance: *tolerance,
            clock: clock.clone(),
        },
        SourceAuth::AllowFrom => Auth::AllowFrom,
    })
}

/// The filters of all subscriptions.
pub(super) fn memberships(config: &Config) -> Arc<Vec<Membership>> {
    Arc::new(config.subscriptions.iter().map(|(name, s)| membership(name, s)).collect())
}

fn membership(name: &HookName, subscription: &Subscription) -> Membership {
    Membership::new(name.clone(), &subscription.resource)
        .with_subject(subscription.subject.clone())
        .with_type(subscription.ty.clone())
        .with_subunits(subscription.include_subunits)
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("names", &self.secrets.keys()).finish_non_exhaustive()
    }
}
