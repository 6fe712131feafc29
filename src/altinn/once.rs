//! One look at the subscriptions, for the command line: list, plan, apply.
//!
//! Owns what is shown of them. Nothing here prints, or waits for a validation or an overlap.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    api::{ApiError, Events, Observed, SubscriptionId},
    memory::{Memory, MemoryError},
    plan::{self, Action, Change, Context, Fate, Plan, Stale, hook_of, redacted, sort},
    problem::Words,
    reconcile::Local,
    token::TokenSource,
};
use crate::name::HookName;

/// A validation that another process asked for may take this long.
const PATIENCE: Duration = Duration::from_secs(600);

/// A subscription as Altinn has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number.
    pub id: SubscriptionId,
    /// What stands after `/hooks/`, if the endpoint is ours.
    pub name: Option<String>,
    /// Whether the endpoint is ours.
    pub ours: bool,
    /// Without secrets.
    pub endpoint: Option<String>,
    /// The filter.
    pub resource: Option<String>,
    /// The filter.
    pub subject: Option<String>,
    /// The filter.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// The filter; a subscription of ours has none.
    pub source: Option<String>,
    /// Also the subject's subunits.
    pub include_subunits: bool,
    /// Whether Altinn pushes to it.
    pub validated: bool,
    /// As Altinn writes it.
    pub created: Option<String>,
    /// Whose it is at Altinn.
    pub consumer: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// For each configured subscription.
    pub subscriptions: Vec<PlannedChange>,
    /// Ours, but not wanted.
    pub stale: Vec<Stale>,
    /// Not ours; not touched.
    pub foreign: Vec<SubscriptionId>,
}

/// What would be done about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedChange {
    /// Its name.
    pub name: HookName,
    /// `create`, `replace`, `revalidate`, `wait` or `none`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Its number, if Altinn has it.
    pub id: Option<SubscriptionId>,
    /// Without the secret.
    pub endpoint: String,
    /// The filter.
    pub resource: String,
    /// The filter.
    pub subject: Option<String>,
    /// The filter.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// Also the subject's subunits.
    pub include_subunits: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// For each configured subscription.
    pub subscriptions: Vec<AppliedChange>,
    /// Ours, but not wanted.
    pub stale: Vec<AppliedStale>,
    /// Not ours; not touched.
    pub foreign: Vec<SubscriptionId>,
}

/// What was done about one that is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedStale {
    /// What was to be done.
    #[serde(flatten)]
    pub planned: Stale,
    /// Whether it is gone.
    pub removed: bool,
    /// Why it is not.
    pub error: Option<Words>,
}

/// Why nothing could be said or done.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// Altinn.
    #[error(transparent)]
    Altinn(#[from] ApiError),
    /// What this store remembers.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What was done about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedChange {
    /// What was to be done.
    #[serde(flatten)]
    pub planned: PlannedChange,
    /// As Altinn answered; the validation itself comes later.
    pub validated: bool,
    /// Why it failed.
    pub error: Option<Words>,
}

impl Applied {
    /// Whether everything was done.
    pub fn is_good(&self) -> bool {
        self.subscriptions.iter().all(|change| change.error.is_none())
            && self.stale.iter().all(|stale| stale.error.is_none())
    }
}

/// What Altinn has for this identity.
pub async fn list<T: TokenSource>(
    events: &Events<T>,
    public_url: &Url,
) -> Result<Vec<Listed>, ApiError> {
    let observed = events.list().await?;
    Ok(observed.into_iter().map(|row| listed(row, public_url)).collect())
}

/// What `apply` would do.
pub async fn plan<T: TokenSource>(events: &Events<T>, local: &Local) -> Result<Planned, ApiError> {
    let observed = events.list().await?;
    let mut memory = local.memory.read();
    observe(&mut memory, &observed, (events, local));
    let Plan { changes, stale, foreign } = compare(&observed, &memory, (events, local));
    Ok(Planned { subscriptions: changes.iter().map(planned).collect(), stale, foreign })
}

/// Creates what is missing, asks again for validations that did not come, and removes what has
/// been replaced for long enough or is not configured any more. One that is refused does not keep
/// the others from being tried.
pub async fn apply<T: TokenSource>(
    events: &Events<T>,
    local: &Local,
) -> Result<Applied, OnceError> {
    let observed = events.list().await?;
    let (plan, memory) = local.memory.update(|memory| {
        observe(memory, &observed, (events, local));
        let plan = compare(&observed, memory, (events, local));
        remember_asking(memory, &plan, local);
        (plan, memory.clone())
    })?;
    (local.remembered)(&memory);
    let Plan { changes, stale, foreign } = plan;
    let mut subscriptions = Vec::with_capacity(changes.len());
    for change in &changes {
        subscriptions.push(apply_one(events, change).await?);
    }
    let mut removed = Vec::with_capacity(stale.len());
    for stale in stale {
        removed.push(remove_one(events, stale).await?);
    }
    Ok(Applied { subscriptions, stale: removed, foreign })
}

fn observe<T: TokenSource>(
    memory: &mut Memory,
    observed: &[Observed],
    (events, local): (&Events<T>, &Local),
) {
    let ours = sort(observed, &local.public_url).0;
    memory.observe(&(local.held)(), &ours, events.clock().now());
}

fn compare<T: TokenSource>(
    observed: &[Observed],
    memory: &Memory,
    (events, local): (&Events<T>, &Local),
) -> Plan {
    let context = Context {
        public_url: &local.public_url,
        now: events.clock().now(),
        patience: PATIENCE,
        posted: &BTreeMap::new(),
        created_counts: true,
        memory,
        overlap: local.overlap,
        adopt: true,
    };
    plan::plan(&(local.desired)(), observed, &context)
}

fn remember_asking(memory: &mut Memory, plan: &Plan, local: &Local) {
    let held = (local.held)().into_iter().filter(|held| held.current);
    for held in held {
        let asks = |change: &Change| change.name == held.name && change.action.is_post();
        if plan.changes.iter().any(asks) {
            memory.asks(&held.name, &held.code);
        }
    }
}

async fn remove_one<T: TokenSource>(
    events: &Events<T>,
    stale: Stale,
) -> Result<AppliedStale, ApiError> {
    let mut done = AppliedStale { planned: stale, removed: false, error: None };
    if done.planned.fate == Fate::Remove {
        match events.delete(done.planned.id).await {
            Ok(()) | Err(ApiError::NotFound) => done.removed = true,
            Err(error) if error.concerns_one() => done.error = Some(error.words()),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

async fn apply_one<T: TokenSource>(
    events: &Events<T>,
    change: &Change,
) -> Result<AppliedChange, ApiError> {
    let mut done = AppliedChange {
        planned: planned(change),
        validated: matches!(change.action, Action::LeaveAlone(_)),
        error: None,
    };
    if change.action.is_post() {
        match events.create(&change.spec).await {
            Ok(row) => (done.planned.id, done.validated) = (Some(row.id), row.validated),
            Err(error) if error.concerns_one() => done.error = Some(error.words()),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn planned(change: &Change) -> PlannedChange {
    let Change { name, spec, action } = change;
    PlannedChange {
        name: name.clone(),
        action: action.word(),
        reason: action.reason(),
        id: action.id(),
        endpoint: redacted(&spec.endpoint),
        resource: spec.resource.clone(),
        subject: spec.subject.clone(),
        ty: spec.ty.clone(),
        include_subunits: spec.include_subunits,
    }
}

fn listed(row: Observed, public_url: &Url) -> Listed {
    let endpoint = row.endpoint.as_deref().map(Url::parse);
    let name = match &endpoint {
        Some(Ok(url)) => hook_of(url, public_url),
        Some(Err(_)) | None => None,
    };
    Listed {
        id: row.id,
        ours: name.is_some(),
        name,
        // What is no URL cannot be taken apart, so nothing of it is shown.
        endpoint: endpoint.map(|url| url.map_or("***".to_owned(), |url| redacted(&url))),
        resource: row.resource,
        subject: row.subject,
        ty: row.ty,
        source: row.source,
        include_subunits: row.include_subunits,
        validated: row.validated,
        created: row.created,
        consumer: row.consumer,
    }
}
