//! What is known about subscriptions, for `status`; and the log line when that changes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    api::SubscriptionId,
    plan::{Action, Fate, Plan, Stale},
};
use crate::{
    altinn::{events_api::ApiError, http::error_text::ErrorText},
    clock::Timestamp,
    metrics::{HookLabels, Metrics},
    name::HookName,
};

/// All subscriptions, as the last look at Altinn found them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// By name, as configured.
    pub subscriptions: BTreeMap<HookName, SubscriptionStatus>,
    /// Subscriptions of the same identity with endpoints that are not ours.
    pub foreign: usize,
    /// Ours, but not wanted.
    pub stale: Vec<Stale>,
    /// When Altinn was last asked with success.
    pub checked: Option<Timestamp>,
    /// Why Altinn cannot be asked now.
    pub error: Option<ErrorText>,
}

/// One subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SubscriptionStatus {
    /// Its number at Altinn, if Altinn has it.
    pub id: Option<SubscriptionId>,
    /// Whether Altinn pushes to it.
    pub validated: bool,
    /// Since when `id` and `validated` are as they are.
    pub since: Option<Timestamp>,
    /// Why the last attempt to create or revalidate it failed; gone when one succeeds.
    pub error: Option<ErrorText>,
    /// When Altinn was last asked about it with success.
    pub checked: Option<Timestamp>,
    /// When this process last posted it with success.
    pub posted: Option<Timestamp>,
}

impl Status {
    /// Takes over what a list said, and logs and counts what is new in it.
    pub(crate) fn observe(&mut self, plan: &Plan, now: Timestamp, metrics: &Metrics) {
        self.checked = Some(now);
        self.foreign = plan.foreign.len();
        self.observe_stale(&plan.stale);
        let wanted = |name: &HookName| plan.changes.iter().any(|change| change.name == *name);
        self.subscriptions.retain(|name, _| wanted(name));
        for change in &plan.changes {
            let validated = matches!(change.action, Action::LeaveAlone(_));
            let one = self.subscriptions.entry(change.name.clone()).or_default();
            one.set(&change.name, change.action.id(), validated, now);
            one.checked = Some(now);
            if !change.action.is_post() {
                one.error = None;
            }
            count(&change.name, validated, metrics);
        }
    }

    fn observe_stale(&mut self, stale: &[Stale]) {
        let known = |new: &Stale| self.stale.iter().any(|old| old.id == new.id);
        for new in stale.iter().filter(|new| !known(new)) {
            let (id, reason, hook) = (new.id, new.reason.in_words(), new.name.as_str());
            let what = "Altinn has a subscription of ours that is not wanted";
            match new.fate {
                Fate::Remove => tracing::info!(%id, reason, hook, "{what}: it is removed"),
                Fate::Keep { until: Some(until) } => {
                    tracing::info!(%id, reason, hook, %until, "{what}: it is removed then");
                }
                Fate::Keep { until: None } => {
                    tracing::info!(%id, reason, hook, "{what}: it stays until its replacement is validated");
                }
                Fate::Report => {
                    tracing::warn!(%id, reason, hook, "{what}: `brevdue subscriptions apply` removes it");
                }
            }
        }
        stale.clone_into(&mut self.stale);
    }

    /// A whole look has gone well.
    pub(crate) fn succeeded(&mut self) {
        if self.error.take().is_some() {
            tracing::info!("the subscriptions can be looked after again");
        }
    }

    /// One that was not wanted is gone.
    pub(crate) fn removed(&mut self, gone: &Stale) {
        tracing::info!(id = %gone.id, reason = gone.reason.in_words(), hook = gone.name, "removed a subscription");
        self.stale.retain(|stale| stale.id != gone.id);
    }

    /// Takes over the answer to a post.
    pub(crate) fn posted(
        &mut self,
        name: &HookName,
        answer: Result<(SubscriptionId, bool), &ApiError>,
        now: Timestamp,
        metrics: &Metrics,
    ) {
        let one = self.subscriptions.entry(name.clone()).or_default();
        match answer {
            Ok((id, validated)) => {
                one.set(name, Some(id), validated, now);
                (one.error, one.posted) = (None, Some(now));
                count(name, validated, metrics);
            }
            Err(error) => {
                let words = error.text();
                if one.error.as_ref() != Some(&words) {
                    let trace_id = words.trace_id.as_deref();
                    tracing::warn!(subscription = %name, trace_id, "cannot subscribe: {words}");
                }
                one.error = Some(words);
            }
        }
    }

    /// Altinn could not be asked; what was known stays.
    pub(crate) fn failed(&mut self, words: ErrorText) {
        if self.error.as_ref() != Some(&words) {
            let trace_id = words.trace_id.as_deref();
            tracing::warn!(trace_id, "cannot look after the subscriptions: {words}");
        }
        self.error = Some(words);
    }
}

impl SubscriptionStatus {
    fn set(
        &mut self,
        name: &HookName,
        id: Option<SubscriptionId>,
        validated: bool,
        now: Timestamp,
    ) {
        if self.since.is_some() && (self.id, self.validated) == (id, validated) {
            return;
        }
        let shown = id.map(tracing::field::display);
        if validated {
            tracing::info!(subscription = %name, id = shown, "the subscription is validated");
        } else if id.is_some() {
            tracing::info!(subscription = %name, id = shown, "the subscription waits for its validation");
        } else if self.since.is_some() {
            tracing::warn!(subscription = %name, "Altinn does not have the subscription any more");
        } else {
            tracing::info!(subscription = %name, "Altinn does not have the subscription yet");
        }
        (self.id, self.validated, self.since) = (id, validated, Some(now));
    }
}

fn count(name: &HookName, validated: bool, metrics: &Metrics) {
    metrics.subscription_validated.get_or_create(&HookLabels::new(name)).set(validated.into());
}
