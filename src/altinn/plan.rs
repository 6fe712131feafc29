//! What is wanted against what Altinn has, and what to do about the difference. Pure.
//!
//! Owns the comparison and the question whose a subscription is. It never plans to delete: what
//! is ours but not wanted is reported as stale, and what is not ours is only counted.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use url::Url;

use super::api::{Observed, Spec, SubscriptionId, given};
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
            Self::Create(_) => "create",
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
    let mut plan = Plan::default();
    let mut ours: Vec<Ours<'_>> = Vec::new();
    for row in observed {
        match Ours::new(row, context.public_url) {
            Some(row) => ours.push(row),
            None => plan.foreign.push(row.id),
        }
    }
    for wanted in desired {
        let kept = ours.iter().filter(|row| row.serves(wanted, context));
        // One of several equal rows is enough: a validated one, else the oldest.
        let kept = kept.min_by_key(|row| (!row.row.validated, row.row.id));
        let action = match kept {
            Some(kept) => standing(wanted, kept.row, context),
            None => Action::Create(missing(wanted, &ours)),
        };
        plan.changes.push(Change { name: wanted.name.clone(), spec: wanted.spec.clone(), action });
    }
    let kept: Vec<_> = plan.changes.iter().filter_map(|change| change.action.id()).collect();
    let rest = ours.iter().filter(|row| !kept.contains(&row.row.id));
    plan.stale = rest.map(|row| row.stale(desired, context)).collect();
    plan
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
    let at: jiff::Timestamp = row.created.as_deref()?.parse().ok()?;
    Timestamp::try_from(at).ok()
}

fn missing(wanted: &Desired, ours: &[Ours<'_>]) -> Missing {
    let mut same_name = ours.iter().filter(|row| row.name == wanted.name.as_str()).peekable();
    if same_name.peek().is_none() {
        Missing::Absent
    } else if same_name.any(|row| row.has_endpoint(&wanted.spec)) {
        Missing::OtherFilters
    } else {
        Missing::OtherCode
    }
}

/// A row whose endpoint is ours.
struct Ours<'a> {
    row: &'a Observed,
    endpoint: Url,
    name: String,
}

impl<'a> Ours<'a> {
    fn new(row: &'a Observed, public_url: &Url) -> Option<Self> {
        let endpoint = Url::parse(row.endpoint.as_deref()?).ok()?;
        let name = hook_of(&endpoint, public_url)?;
        Some(Self { row, endpoint, name })
    }

    fn has_endpoint(&self, spec: &Spec) -> bool {
        normal(self.endpoint.as_str()) == normal(spec.endpoint.as_str())
    }

    fn has_filters(&self, spec: &Spec) -> bool {
        let row = self.row;
        row.source.is_none()
            && row.resource.as_deref().map(str::to_lowercase) == Some(spec.resource.to_lowercase())
            && row.subject.as_deref() == given(spec.subject.as_deref())
            && row.ty.as_deref() == given(spec.ty.as_deref())
            && row.include_subunits == spec.include_subunits
    }

    /// Whether this row is what is wanted.
    fn serves(&self, wanted: &Desired, context: &Context<'_>) -> bool {
        let posted = context.posted.get(&wanted.name);
        posted.is_some_and(|posted| posted.id == self.row.id && posted.spec == wanted.spec)
            || self.has_endpoint(&wanted.spec) && self.has_filters(&wanted.spec)
    }

    fn stale(&self, desired: &[Desired], context: &Context<'_>) -> Stale {
        let reason = match desired.iter().find(|wanted| wanted.name.as_str() == self.name) {
            None => StaleReason::NotConfigured,
            Some(wanted) if self.serves(wanted, context) => StaleReason::Duplicate,
            Some(wanted) if self.has_endpoint(&wanted.spec) => StaleReason::OtherFilters,
            Some(_) => StaleReason::OtherCode,
        };
        let endpoint = redacted(&self.endpoint);
        Stale { id: self.row.id, name: self.name.clone(), endpoint, reason }
    }
}

/// What stands after `{public_url}/hooks/`, if the URL is under that.
pub fn hook_of(endpoint: &Url, public_url: &Url) -> Option<String> {
    let same_place = endpoint.scheme() == public_url.scheme()
        && endpoint.host() == public_url.host()
        && endpoint.port_or_known_default() == public_url.port_or_known_default()
        && endpoint.username().is_empty()
        && endpoint.password().is_none();
    if !same_place || endpoint.cannot_be_a_base() {
        return None;
    }
    let prefix = normal(public_url.path());
    let path = normal(endpoint.path());
    let name = path.strip_prefix(prefix.trim_end_matches('/'))?.strip_prefix("/hooks/")?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// One spelling for one URL. `Url` has done the host, the default port and dot segments; left are
/// percent-encodings, which Altinn (.NET) and `Url` write differently (RFC 3986 section 6.2.2).
fn normal(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = if first == b'%' { escape(tail) } else { None };
        let byte = escaped.unwrap_or(first);
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        // An escaped reserved character means something else than the character itself.
        if unreserved(byte) || escaped.is_none() && RESERVED.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(percent_encoding::percent_encode_byte(byte));
        }
    }
    out
}

/// RFC 3986 section 2.2.
const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The byte that two hexadecimal digits stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A URL for people: every value in its query, its user and its fragment are `***`.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Refused only for URLs that cannot have them.
    let user = !url.username().is_empty() || url.password().is_some();
    if user && (shown.set_password(None).is_err() || shown.set_username("***").is_err()) {
        return "***".to_owned();
    }
    let query = url.query().map(|query| {
        let hide = |pair: &str| match pair.split_once('=') {
            Some((key, _)) => format!("{key}=***"),
            None => "***".to_owned(),
        };
        query.split('&').map(hide).collect::<Vec<_>>().join("&")
    });
    shown.set_query(query.as_deref());
    shown.set_fragment(url.fragment().map(|_| "***"));
    shown.into()
}

#[cfg(test)]
mod tests;
