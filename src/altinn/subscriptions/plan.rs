//! What is wanted against what Altinn has, and what to do about the difference. Pure.
//!
//! Owns the comparison, and when a subscription of ours may go: what replaces
//! it comes first, is validated, and both stay for the overlap. What is not ours is only counted.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    api::{Observed, Spec, SubscriptionId},
    history::History,
    hook_url::redacted,
    ownership::{OwnRow, split},
};
use crate::{clock::Timestamp, name::HookName};

/// A configured subscription with its hook's current URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Its name.
    pub name: HookName,
    /// What to ask for.
    pub spec: Spec,
}

/// What this process has posted for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Altinn's answer. Should Altinn write the endpoint in a way that we do not recognise, the id
    /// still tells that the row is what we asked for.
    pub id: SubscriptionId,
    /// What was asked.
    pub spec: Spec,
    /// When.
    pub at: Timestamp,
}

/// What planning needs beside the two sides.
#[derive(Debug)]
pub struct Context<'a> {
    /// As configured.
    pub public_url: &'a Url,
    /// The time.
    pub now: Timestamp,
    /// How long a validation may take before it is asked for again.
    pub patience: Duration,
    /// What this process has posted.
    pub posted: &'a BTreeMap<HookName, Posted>,
    /// Whether patience also holds for a row that another process made: counted from when Altinn
    /// made it. A daemon that has just begun to listen does not wait for what came too early.
    pub created_counts: bool,
    /// What was seen before; with what is observed now already in it.
    pub history: &'a History,
    /// How long a replaced one stays after its replacement was validated.
    pub overlap: Duration,
    /// Whether a name that is not configured is removed even if another store asked for it.
    pub adopt: bool,
}

/// What to do for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub name: HookName,
    /// What is wanted.
    pub spec: Spec,
    /// What to do.
    pub action: Action,
}

/// What to do, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Post it.
    Create(Missing),
    /// It exists and has not been validated in time: post it again, which asks for that.
    Revalidate(SubscriptionId),
    /// It exists, and its validation may still come.
    Wait(SubscriptionId),
    /// It is as it should be.
    LeaveAlone(SubscriptionId),
}

/// Why something must be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is nothing under this name.
    Absent,
    /// What is there has another secret.
    OtherCode,
    /// What is there has another resource, subject or type.
    OtherFilters,
}

/// Ours, but not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// Which.
    pub id: SubscriptionId,
    /// What stands after `/hooks/`.
    pub name: String,
    /// Its endpoint without secrets.
    pub endpoint: String,
    /// Why it is not wanted.
    pub reason: StaleReason,
    /// What is done about it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What is done about a subscription of ours that is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Fate {
    /// Remove it now.
    Remove,
    /// Leave it for now.
    Keep {
        /// Remove it then; without a time, when its replacement is validated and the overlap over.
        until: Option<Timestamp>,
    },
    /// Another store may have asked for it: leave it to a person.
    Report,
}

/// Why a subscription of ours is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StaleReason {
    /// The name is not configured.
    NotConfigured,
    /// The name is configured with another secret or another URL.
    OtherCode,
    /// The name is configured with another resource, subject or type.
    OtherFilters,
    /// The same as another row.
    Duplicate,
}

impl StaleReason {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NotConfigured => "the name is not configured",
            Self::OtherCode => "it has another secret",
            Self::OtherFilters => "it has other filters",
            Self::Duplicate => "there is an equal one",
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each wanted subscription, in the order they were given.
    pub changes: Vec<Change>,
    /// Ours, but not wanted.
    pub stale: Vec<Stale>,
    /// Not ours: never touched.
    pub foreign: Vec<SubscriptionId>,
}

impl Action {
    /// The subscription that is there.
    pub fn id(self) -> Option<SubscriptionId> {
        match self {
            Self::Create(_) => None,
            Self::Revalidate(id) | Self::Wait(id) | Self::LeaveAlone(id) => Some(id),
        }
    }

    /// Whether Altinn is asked for something.
    pub fn is_post(self) -> bool {
        matches!(self, Self::Create(_) | Self::Revalidate(_))
    }

    /// The word for it in listings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create(Missing::Absent) => "create",
            Self::Create(Missing::OtherCode | Missing::OtherFilters) => "replace",
            Self::Revalidate(_) => "revalidate",
            Self::Wait(_) => "wait",
            Self::LeaveAlone(_) => "none",
        }
    }

    /// Why.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Create(Missing::Absent) => "Altinn does not have it",
            Self::Create(Missing::OtherCode) => "Altinn has it with another secret",
            Self::Create(Missing::OtherFilters) => "Altinn has it with other filters",
            Self::Revalidate(_) => "it has not been validated",
            Self::Wait(_) => "its validation is under way",
            Self::LeaveAlone(_) => "it is validated",
        }
    }
}

/// Compares, and says what to do. Names in `desired` are unique.
pub fn plan(desired: &[Desired], observed: &[Observed], context: &Context<'_>) -> Plan {
    let (ours, foreign) = split(observed, context.public_url);
    let kept: Vec<Option<&OwnRow<'_>>> = desired
        .iter()
        .map(|wanted| {
            let serving = ours.iter().filter(|row| row.serves(wanted, context));
            // One of several equal rows is enough: a validated one, else the oldest.
            serving.min_by_key(|row| (!row.row.validated, row.row.id))
        })
        .collect();
    let changes = desired.iter().zip(&kept).map(|(wanted, kept)| {
        let action = match kept {
            Some(kept) => standing(wanted, kept.row, context),
            None => Action::Create(missing(wanted, &ours)),
        };
        Change { name: wanted.name.clone(), spec: wanted.spec.clone(), action }
    });
    let is_kept = |row: &OwnRow<'_>| kept.iter().flatten().any(|kept| kept.row.id == row.row.id);
    let wants: Vec<_> = desired.iter().zip(kept.iter().copied()).collect();
    let stale = ours.iter().filter(|row| !is_kept(row));
    let stale = stale.map(|row| row.stale(&wants, context)).collect();
    Plan { changes: changes.collect(), stale, foreign }
}

fn standing(wanted: &Desired, row: &Observed, context: &Context<'_>) -> Action {
    if row.validated {
        return Action::LeaveAlone(row.id);
    }
    let posted = context.posted.get(&wanted.name).filter(|posted| posted.spec == wanted.spec);
    let created = created(row).filter(|_| context.created_counts);
    let asked = posted.map(|posted| posted.at).or(created);
    if asked.is_some_and(|asked| context.now.since(asked) < context.patience) {
        Action::Wait(row.id)
    } else {
        Action::Revalidate(row.id)
    }
}

fn created(row: &Observed) -> Option<Timestamp> {
    row.created.as_deref()?.parse().ok()
}

fn missing(wanted: &Desired, ours: &[OwnRow<'_>]) -> Missing {
    let mut same_name = ours.iter().filter(|row| row.name == wanted.name.as_str()).peekable();
    if same_name.peek().is_none() {
        Missing::Absent
    } else if same_name.any(|row| row.has_endpoint(&wanted.spec)) {
        Missing::OtherFilters
    } else {
        Missing::OtherCode
    }
}

/// A wanted subscription, with the row that is it.
type Want<'w, 'a> = (&'w Desired, Option<&'w OwnRow<'a>>);

impl OwnRow<'_> {
    /// Whether this row is what is wanted.
    fn serves(&self, wanted: &Desired, context: &Context<'_>) -> bool {
        let posted = context.posted.get(&wanted.name);
        posted.is_some_and(|posted| posted.id == self.row.id && posted.spec == wanted.spec)
            || self.has_endpoint(&wanted.spec) && self.has_filters(&wanted.spec)
    }

    fn stale(&self, wants: &[Want<'_, '_>], context: &Context<'_>) -> Stale {
        let own = wants.iter().find(|(wanted, _)| wanted.name.as_str() == self.name);
        let (reason, fate) = match own {
            None => (StaleReason::NotConfigured, self.unwanted(wants, context)),
            Some((wanted, kept)) if self.serves(wanted, context) => {
                (StaleReason::Duplicate, duplicate(*kept))
            }
            Some((wanted, kept)) => {
                let same = self.has_endpoint(&wanted.spec);
                let reason = if same { StaleReason::OtherFilters } else { StaleReason::OtherCode };
                (reason, replaced(std::iter::once(*kept), context))
            }
        };
        let (id, name) = (self.row.id, self.name.clone());
        Stale { id, name, endpoint: redacted(&self.endpoint), reason, fate }
    }

    /// For a name that is not configured. What is wanted on the same resource may be what comes in
    /// its place (a new name, say), so that has to stand first.
    fn unwanted(&self, wants: &[Want<'_, '_>], context: &Context<'_>) -> Fate {
        let asked = |code| context.history.asked(&self.name, code);
        if !context.adopt && !self.code.as_ref().is_some_and(asked) {
            return Fate::Report;
        }
        let resource = self.row.resource.as_deref().map(str::to_lowercase);
        let same = |want: &&Want<'_, '_>| Some(want.0.spec.resource.to_lowercase()) == resource;
        replaced(wants.iter().filter(same).map(|(_, kept)| *kept), context)
    }
}

/// One of two equal rows: as soon as the other is validated it is of no use.
fn duplicate(kept: Option<&OwnRow<'_>>) -> Fate {
    match kept {
        Some(kept) if kept.row.validated => Fate::Remove,
        Some(_) | None => Fate::Keep { until: None },
    }
}

/// When all that comes in its place is validated, and the overlap is over for each.
fn replaced<'w, 'a: 'w>(
    replacements: impl Iterator<Item = Option<&'w OwnRow<'a>>>,
    context: &Context<'_>,
) -> Fate {
    let mut until = None;
    for replacement in replacements {
        let validated = replacement.filter(|row| row.row.validated);
        let Some(row) = validated else { return Fate::Keep { until: None } };
        // One that the history does not have was not validated at any time before now.
        let since = context.history.validated(row.row.id).unwrap_or(context.now);
        until = until.max(Some(since.after(context.overlap)));
    }
    match until {
        Some(until) if until > context.now => Fate::Keep { until: Some(until) },
        Some(_) | None => Fate::Remove,
    }
}

#[cfg(test)]
mod tests;
