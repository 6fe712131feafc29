//! Who gets an event: the match with its hour-long cache, and the decision with its own.

use url::Url;

use super::cloud_event::CloudEvent;
use crate::{
    clock::Timestamp,
    simulator::{
        auth::policy::{self, Question},
        options::Options,
        state::{MatchKey, Subscription, Tables},
    },
};

use std::time::Duration;

/// How long both caches hold; nothing invalidates them.
const CACHED: Duration = Duration::from_secs(3600);
const ORGANIZATION: &str = "urn:altinn:organization:identifier-no:";

/// The subscriptions that `event` is pushed to, as they are at this moment.
pub(in crate::simulator) fn fan_out(
    tables: &mut Tables,
    options: &Options,
    now: Timestamp,
    event: &CloudEvent,
) -> Vec<Subscription> {
    let mut rows = matching(tables, options, now, event);
    rows.retain(|row| {
        row.source_filter.as_deref().is_none_or(|base| is_base_of(base, event.text("source")))
    });
    rows.retain(|row| allowed(tables, options, now, (&row.consumer, event)));
    rows
}

fn matching(
    tables: &mut Tables,
    options: &Options,
    now: Timestamp,
    event: &CloudEvent,
) -> Vec<Subscription> {
    let key: MatchKey = (
        event.text("resource").to_owned(),
        event.get("subject").map(str::to_owned),
        event.text("type").to_owned(),
    );
    if let Some((rows, until)) = tables.matches.get(&key)
        && options.caches
        && *until > now
    {
        return rows.clone();
    }
    let main_unit = main_unit(options, event);
    let rows: Vec<Subscription> = tables
        .subscriptions
        .values()
        .filter(|row| matches(row, event, main_unit.as_deref()))
        .cloned()
        .collect();
    tables.matches.retain(|_, (_, until)| *until > now);
    tables.matches.insert(key, (rows.clone(), now.after(options.scaled(CACHED))));
    rows
}

fn main_unit(options: &Options, event: &CloudEvent) -> Option<String> {
    let org = event.get("subject")?.strip_prefix(ORGANIZATION)?;
    options.main_units.get(org).map(|main| format!("{ORGANIZATION}{main}"))
}

fn matches(row: &Subscription, event: &CloudEvent, main_unit: Option<&str>) -> bool {
    // An event without a subject is, to the query, one whose subject is empty.
    let subject = match row.subject_filter.as_deref() {
        None => true,
        Some(wanted) => {
            wanted == event.text("subject") || (row.include_subunits && main_unit == Some(wanted))
        }
    };
    row.validated
        && subject
        && row.resource_filter.as_deref() == event.get("resource")
        && row.type_filter.as_deref().is_none_or(|wanted| wanted == event.text("type"))
}

/// .NET's `Uri.IsBaseOf`: same scheme and authority, and under the base's last slash.
fn is_base_of(base: &str, url: &str) -> bool {
    let (Ok(base), Ok(url)) = (Url::parse(base), Url::parse(url)) else { return false };
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    base.origin() == url.origin() && url.path().starts_with(&format!("{folder}/"))
}

/// Cached under resource and consumer only: the subject of whoever came first decides for all.
fn allowed(
    tables: &mut Tables,
    options: &Options,
    now: Timestamp,
    (consumer, event): (&str, &CloudEvent),
) -> bool {
    let key = (event.text("resource").to_owned(), consumer.to_owned());
    if let Some((permit, until)) = tables.decisions.get(&key)
        && options.caches
        && *until > now
    {
        return *permit;
    }
    let question =
        Question { consumer, resource: event.text("resource"), subject: event.get("subject") };
    let permit = policy::permits(options, &tables.faults.decisions, question);
    tables.decisions.retain(|_, (_, until)| *until > now);
    tables.decisions.insert(key, (permit, now.after(options.scaled(CACHED))));
    permit
}

/// A Deny that holds for the hour, whatever the policy says.
pub(in crate::simulator) fn deny(
    tables: &mut Tables,
    options: &Options,
    now: Timestamp,
    key: (String, String),
) {
    tables.decisions.insert(key, (false, now.after(options.scaled(CACHED))));
}

#[cfg(test)]
mod tests;
