//! The commands that look at the subscriptions once: list, plan, apply.
//!
//! Owns what is shown of them. Nothing here prints, or waits for a validation or an overlap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    api::{Observed, SubscriptionId},
    executor::{self, Progress},
    history::History,
    history_file::HistoryError,
    hook_url::{hook_of, redacted},
    local::Local,
    ownership::split,
    plan::{self, Action, Change, Context, Plan, Stale},
};
use crate::{
    altinn::{
        auth::token::TokenSource,
        events_api::{ApiError, EventsApi},
        http::error_text::ErrorText,
    },
    name::HookName,
};

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
    pub error: Option<ErrorText>,
}

/// Why nothing could be said or done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Altinn.
    #[error(transparent)]
    Altinn(#[from] ApiError),
    /// What this store remembers.
    #[error(transparent)]
    History(#[from] HistoryError),
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
    pub error: Option<ErrorText>,
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
    events: &EventsApi<T>,
    public_url: &Url,
) -> Result<Vec<Listed>, ApiError> {
    let observed = events.list().await?;
    Ok(observed.into_iter().map(|row| listed(row, public_url)).collect())
}

/// What `apply` would do.
pub async fn plan<T: TokenSource>(
    events: &EventsApi<T>,
    local: &Local,
) -> Result<Planned, CommandError> {
    let observed = events.list().await?;
    let mut history = local.history.read().await?;
    let ours = split(&observed, &local.public_url).0;
    history.observe(&(local.codes)(), &ours, events.clock().now());
    let Plan { changes, stale, foreign } = compare(&observed, &history, (events, local));
    Ok(Planned { subscriptions: changes.iter().map(planned).collect(), stale, foreign })
}

/// Creates what is missing, asks again for validations that did not come, and removes what has
/// been replaced for long enough or is not configured any more. One that is refused does not keep
/// the others from being tried.
pub async fn apply<T: TokenSource>(
    events: &EventsApi<T>,
    local: &Local,
) -> Result<Applied, CommandError> {
    let observed: Arc<[Observed]> = events.list().await?.into();
    let history = local.observe(&observed, events.clock().now()).await?;
    let plan = compare(&observed, &history, (events, local));
    let mut applied = Applied::before(&plan);
    let posts = executor::posts(&plan, &applied);
    local.note_asked(&history, &posts).await?;
    executor::execute(events, &plan, &mut applied).await?;
    Ok(applied)
}

fn compare<T: TokenSource>(
    observed: &[Observed],
    history: &History,
    (events, local): (&EventsApi<T>, &Local),
) -> Plan {
    let context = Context {
        public_url: &local.public_url,
        now: events.clock().now(),
        patience: PATIENCE,
        posted: &BTreeMap::new(),
        created_counts: true,
        history,
        overlap: local.overlap,
        adopt: true,
    };
    plan::plan(&(local.desired)(), observed, &context)
}

impl Applied {
    /// Nothing is done yet.
    fn before(plan: &Plan) -> Self {
        let change = |change: &Change| AppliedChange {
            planned: planned(change),
            validated: matches!(change.action, Action::LeaveAlone(_)),
            error: None,
        };
        let stale =
            |stale: &Stale| AppliedStale { planned: stale.clone(), removed: false, error: None };
        Self {
            subscriptions: plan.changes.iter().map(change).collect(),
            stale: plan.stale.iter().map(stale).collect(),
            foreign: plan.foreign.clone(),
        }
    }
}

/// Each step is taken once, and its outcome kept.
impl Progress for Applied {
    fn may_post(&self, _: &Change) -> bool {
        true
    }

    fn posting(&mut self, _: &Change) {}

    fn posted(&mut self, change: &Change, answer: Result<&Observed, &ApiError>) {
        let mut all = self.subscriptions.iter_mut();
        let Some(done) = all.find(|done| done.planned.name == change.name) else { return };
        match answer {
            Ok(row) => (done.planned.id, done.validated) = (Some(row.id), row.validated),
            Err(error) => done.error = Some(error.text()),
        }
    }

    fn may_remove(&mut self, _: &Stale) -> bool {
        true
    }

    fn removed(&mut self, stale: &Stale, answer: Result<(), &ApiError>) {
        let mut all = self.stale.iter_mut();
        let Some(done) = all.find(|done| done.planned.id == stale.id) else { return };
        match answer {
            Ok(()) => done.removed = true,
            Err(error) => done.error = Some(error.text()),
        }
    }
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
