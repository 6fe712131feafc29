//! The control API under `/simulator/`: what the outside world does, faults, and what was seen.

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    answers,
    events::{cloud_event::CloudEvent, jobs, matching, subscriptions},
    state::{Faults, State, Subscription},
    times,
};
use crate::server::{Answer, answer};

const PUBLISHED: &str = "no.altinn.correspondence.correspondencepublished";
const RESOURCE: &str = "urn:altinn:resource:";
const ORGANIZATION: &str = "urn:altinn:organization:identifier-no:";
/// Events made by one call.
const MAX_COUNT: u32 = 100_000;

/// Answers a call to `/simulator/{path}`.
pub(super) fn control(state: &Arc<State>, method: &Method, path: &[&str], body: &[u8]) -> Answer {
    match (method.as_str(), path) {
        ("POST", ["events"]) => publish(state, body),
        ("DELETE", ["events", id]) => forget(state, id),
        ("GET", ["deliveries"]) => {
            let deliveries = state.tables().deliveries.clone();
            answers::json(StatusCode::OK, &deliveries)
        }
        ("GET", ["subscriptions"]) => {
            let tables = state.tables();
            let rows: Vec<&Subscription> = tables.subscriptions.values().collect();
            answers::json(StatusCode::OK, &rows)
        }
        ("POST", ["subscriptions"]) => match serde_json::from_slice(body) {
            Ok(body) => subscriptions::foreign(state, &body),
            Err(error) => wrong(&error.to_string()),
        },
        ("DELETE", ["subscriptions"]) => {
            state.tables().subscriptions.clear();
            answer::empty(StatusCode::NO_CONTENT)
        }
        ("DELETE", ["subscriptions", id]) => {
            let id = id.parse::<i32>().ok();
            let removed = id.and_then(|id| state.tables().subscriptions.remove(&id));
            answer::empty(removed.map_or(StatusCode::NOT_FOUND, |_| StatusCode::NO_CONTENT))
        }
        ("GET", ["faults"]) => {
            let faults = state.tables().faults.clone();
            answers::json(StatusCode::OK, &faults)
        }
        ("POST", ["faults"]) => faults(state, body),
        ("POST", ["denials"]) => deny(state, body),
        ("GET", ["requests"]) => requests(state),
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// The feed no longer has it, as if its ninety days were over.
fn forget(state: &State, id: &str) -> Answer {
    let mut tables = state.tables();
    let before = tables.events.len();
    tables.events.retain(|stored| stored.event.text("id") != id);
    let gone = tables.events.len() < before;
    answer::empty(if gone { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

fn wrong(text: &str) -> Answer {
    answers::json(StatusCode::BAD_REQUEST, &json!({ "error": text }))
}

fn faults(state: &State, body: &[u8]) -> Answer {
    let faults: Faults = match serde_json::from_slice(body) {
        Ok(faults) => faults,
        Err(error) => return wrong(&error.to_string()),
    };
    let mut tables = state.tables();
    if faults.expire_tokens {
        tables.sessions.clear();
    }
    tables.faults = faults;
    answers::json(StatusCode::OK, &tables.faults)
}

/// One decision that Altinn remembers for an hour.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Denial {
    resource: String,
    consumer: String,
}

fn deny(state: &State, body: &[u8]) -> Answer {
    match serde_json::from_slice::<Denial>(body) {
        Ok(Denial { resource, consumer }) => {
            let now = state.now();
            matching::deny(&mut state.tables(), &state.options, now, (resource, consumer));
            answer::empty(StatusCode::NO_CONTENT)
        }
        Err(error) => wrong(&error.to_string()),
    }
}

fn requests(state: &State) -> Answer {
    #[derive(serde::Serialize)]
    struct Seen<'c> {
        #[serde(flatten)]
        counts: &'c super::state::Counts,
        dead_letters: usize,
        waiting: usize,
        stored_events: usize,
    }
    let tables = state.tables();
    let seen = Seen {
        counts: &tables.counts,
        dead_letters: tables.dead_letters,
        waiting: tables.jobs,
        stored_events: tables.events.len(),
    };
    answers::json(StatusCode::OK, &seen)
}

/// What a publisher is asked to publish: Correspondence, unless told otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// A resource id or the whole URN.
    resource: String,
    #[serde(rename = "type")]
    ty: Option<String>,
    /// An organisation number or the whole URN.
    subject: Option<String>,
    count: Option<u32>,
    /// Attributes that are left out.
    #[serde(default)]
    without: Vec<String>,
    /// Attributes that are put in, or put in place of others.
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    /// Each is published twice, the second time under a new id.
    #[serde(default)]
    twins: bool,
    /// Published by Dialogporten, on the same resource.
    #[serde(default)]
    dialogporten: bool,
}

/// A body with `specversion` is an event; any other is an order.
fn publish(state: &Arc<State>, body: &[u8]) -> Answer {
    let is_event = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body)
        .is_ok_and(|members| members.contains_key("specversion"));
    let events = if is_event {
        CloudEvent::read(body).map(|event| vec![event])
    } else {
        serde_json::from_slice(body)
            .map_err(|error| error.to_string())
            .map(|order| ordered(state, &order))
    };
    let events = match events {
        Ok(events) => events,
        Err(error) => return wrong(&error),
    };
    let mut ids = Vec::new();
    let mut total = 0;
    for event in events {
        ids.push(event.text("id").to_owned());
        match jobs::publish(state, event) {
            Some(pushed) => total += pushed,
            None => return answer::empty(StatusCode::INSUFFICIENT_STORAGE),
        }
    }
    answers::json(StatusCode::OK, &json!({ "ids": ids, "pushes": total }))
}

fn ordered(state: &State, order: &Order) -> Vec<CloudEvent> {
    let urn = |prefix: &str, text: &str| {
        if text.starts_with("urn:") { text.to_owned() } else { format!("{prefix}{text}") }
    };
    let resource = urn(RESOURCE, &order.resource);
    let subject = order.subject.as_deref().map(|subject| urn(ORGANIZATION, subject));
    let count = order.count.unwrap_or(1).min(MAX_COUNT);
    let mut events = Vec::new();
    for _ in 0..count {
        let event = if order.dialogporten {
            dialogporten(state, &resource, subject.as_deref())
        } else {
            correspondence(state, &resource, order.ty.as_deref(), subject.as_deref())
        };
        let event = event.with(&order.attributes).without(&order.without);
        if order.twins {
            let id = BTreeMap::from([("id".to_owned(), Uuid::new_v4().to_string())]);
            events.push(event.clone().with(&id));
        }
        events.push(event);
    }
    events
}

/// What Dialogporten publishes on a resource that it shares with others.
fn dialogporten(state: &State, resource: &str, subject: Option<&str>) -> CloudEvent {
    let dialog = Uuid::new_v4().to_string();
    let source = format!("{}/dialogporten/api/v1/enduser/dialogs/{dialog}", state.base);
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", Uuid::new_v4().to_string()),
        ("time", times::of_event(state.now())),
        ("type", "dialogporten.dialog.updated.v1".to_owned()),
        ("source", source),
    ];
    attributes.extend(subject.map(|subject| ("subject", subject.to_owned())));
    attributes.push(("resource", resource.to_owned()));
    attributes.push(("resourceinstance", dialog));
    CloudEvent::of(attributes)
}

/// In the order in which Correspondence writes them.
fn correspondence(
    state: &State,
    resource: &str,
    ty: Option<&str>,
    subject: Option<&str>,
) -> CloudEvent {
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", Uuid::new_v4().to_string()),
        ("type", ty.unwrap_or(PUBLISHED).to_owned()),
        ("time", times::of_event(state.now())),
        ("resource", resource.to_owned()),
        ("resourceinstance", Uuid::new_v4().to_string()),
    ];
    if let Some(subject) = subject {
        attributes.push(("subject", subject.to_owned()));
    }
    if let Some(org) = subject.and_then(|subject| subject.strip_prefix(ORGANIZATION)) {
        attributes.push(("alternativesubject", format!("/organisation/{org}")));
    }
    let source = format!("{}/correspondence/api/v1/correspondence", state.base);
    attributes.push(("source", source));
    CloudEvent::of(attributes)
}
