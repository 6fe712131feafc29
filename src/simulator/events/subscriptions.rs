//! The subscription endpoints: the rules in their order, with Altinn's statuses and texts.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION};
use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::jobs;
use crate::{
    server::{Answer, answer},
    simulator::{
        answers,
        auth::{
            exchange::{Caller, media_type},
            policy::{self, Question},
        },
        state::{EventsFault, State, Subscription},
    },
};

const APP_RESOURCE: &str = "urn:altinn:resource:app_";
const APPS_DOMAIN: &str = "apps.altinn.no";
/// What generic subscriptions and the feed ask of a token.
pub(in crate::simulator) const SUBSCRIBE: &str = "altinn:events.subscribe";

/// The request's body, property names in any letter case.
#[derive(Debug, Default)]
struct Request {
    end_point: Option<String>,
    source: Option<String>,
    subject: Option<String>,
    resource: Option<String>,
    alternative_subject: Option<String>,
    ty: Option<String>,
    include_subunits: bool,
}

impl Request {
    fn read(body: &[u8]) -> Result<Self, Box<Answer>> {
        let members: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
            let text = format!(
                "The JSON value could not be read. LineNumber: {} | BytePositionInLine: {}.",
                error.line(),
                error.column()
            );
            Box::new(answers::invalid("$", &text))
        })?;
        let mut request = Self::default();
        for (name, value) in &members {
            request.take(name, value)?;
        }
        Ok(request)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), Box<Answer>> {
        let wrong = || {
            let text = format!("The JSON value could not be converted. Path: $.{name}");
            Box::new(answers::invalid(&format!("$.{name}"), &text))
        };
        let slot = match name.to_ascii_lowercase().as_str() {
            "endpoint" => &mut self.end_point,
            "sourcefilter" => &mut self.source,
            "subjectfilter" => &mut self.subject,
            "resourcefilter" => &mut self.resource,
            "alternativesubjectfilter" => &mut self.alternative_subject,
            "typefilter" => &mut self.ty,
            "includesubunits" => {
                self.include_subunits = value.as_bool().ok_or_else(wrong)?;
                return Ok(());
            }
            _ => return Ok(()),
        };
        *slot = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(wrong());
            }
        };
        Ok(())
    }

    fn is_app(&self) -> bool {
        let resource = self.resource.as_deref().unwrap_or_default().to_ascii_lowercase();
        let source = self.source.as_deref().and_then(|source| Url::parse(source).ok());
        let host = source.as_ref().and_then(Url::host_str).unwrap_or_default();
        resource.starts_with(APP_RESOURCE) || host.ends_with(APPS_DOMAIN)
    }
}

fn refuse(text: &str) -> Box<Answer> {
    answers::sentence(StatusCode::BAD_REQUEST, text).into()
}

fn https(text: Option<&str>) -> Option<String> {
    let url = Url::parse(text?).ok()?;
    (url.scheme() == "https").then(|| url.to_string())
}

/// `^urn:[a-z0-9-]{1,30}(:[a-z0-9()+,.\-;$_!\/]{1,100}){1,10}$`
fn is_urn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("urn:") else { return false };
    let mut segments = rest.split(':');
    let small = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let namespace = segments.next().unwrap_or_default();
    let segments: Vec<&str> = segments.collect();
    (1..=30).contains(&namespace.len())
        && namespace.bytes().all(|c| small(c) || c == b'-')
        && (1..=10).contains(&segments.len())
        && segments.iter().all(|segment| {
            (1..=100).contains(&segment.len())
                && segment.bytes().all(|c| small(c) || b"()+,.-;$_!/".contains(&c))
        })
}

/// All rules but the policy's: the row that would be stored, or the refusal.
fn check(request: Request, caller: &Caller, state: &State) -> Result<Subscription, Box<Answer>> {
    let end_point = https(request.end_point.as_deref())
        .ok_or_else(|| refuse("Missing or invalid endpoint to push events towards"))?;
    let source = match &request.source {
        Some(text) => Some(https(Some(text)).ok_or_else(|| {
            refuse("SourceFilter must be an absolute URL with the https scheme.")
        })?),
        None => None,
    };
    let app = request.is_app();
    if !app && !caller.may(SUBSCRIBE) {
        return Err(answer::empty(StatusCode::FORBIDDEN).into());
    }
    if request.resource.as_deref().is_some_and(|resource| !is_urn(resource)) {
        return Err(refuse("Resource filter must be a valid urn"));
    }
    let resource = if app {
        Some(app_rules(&request, source.as_deref(), caller)?)
    } else {
        generic_rules(&request)?;
        request.resource
    };
    Ok(Subscription {
        id: 0,
        end_point,
        source_filter: source,
        resource_filter: resource.map(|resource| resource.to_lowercase()),
        subject_filter: request.subject,
        type_filter: request.ty,
        consumer: caller.consumer.clone(),
        created_by: caller.consumer.clone(),
        created: state.now(),
        validated: false,
        include_subunits: request.include_subunits,
    })
}

fn generic_rules(request: &Request) -> Result<(), Box<Answer>> {
    if request.resource.is_none() {
        return Err(refuse("Resource filter is required."));
    }
    if request.source.is_some() {
        let text = "Source filter is not supported for subscriptions on this resource.";
        return Err(refuse(text));
    }
    if request.alternative_subject.is_some() {
        let text = "AlternativeSubject filter is not supported for subscriptions on this resource.";
        return Err(refuse(text));
    }
    subunits_rule(request)
}

fn subunits_rule(request: &Request) -> Result<(), Box<Answer>> {
    if request.include_subunits && request.subject.is_none() {
        return Err(refuse("IncludeSubunits requires a subject filter."));
    }
    Ok(())
}

/// The resource of an app subscription.
fn app_rules(
    request: &Request,
    source: Option<&str>,
    caller: &Caller,
) -> Result<String, Box<Answer>> {
    subunits_rule(request)?;
    // Alternative subjects need the register of people, which is not played here.
    if request.alternative_subject.is_some() || (request.subject.is_none() && !caller.is_org()) {
        return Err(refuse("A valid subject to the authenticated identity is required"));
    }
    let Some(source) = source else { return Ok(request.resource.clone().unwrap_or_default()) };
    let url = Url::parse(source).ok();
    let path = url.as_ref().map(Url::path).unwrap_or_default();
    let derived = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", org, app] if !org.is_empty() && !app.is_empty() => {
            format!("{APP_RESOURCE}{org}_{app}")
        }
        _ => {
            let text = "A valid app id is required in source filter {environment}/{org}/{app}";
            return Err(refuse(text));
        }
    };
    if request.resource.as_ref().is_some_and(|resource| *resource != derived) {
        return Err(refuse("Provided resource filter and source filter are not compatible"));
    }
    Ok(derived)
}

/// `POST subscriptions`.
pub(in crate::simulator) async fn create(
    state: &Arc<State>,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Answer {
    if media_type(headers).as_deref() != Some("application/json") {
        return answers::problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Unsupported Media Type",
            None,
        );
    }
    let wanted = match Request::read(body).and_then(|request| check(request, caller, state)) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let resource = wanted.resource_filter.clone().unwrap_or_default();
    let question = Question {
        consumer: &wanted.consumer,
        resource: &resource,
        subject: wanted.subject_filter.as_deref(),
    };
    if !policy::permits(&state.options, &state.tables().faults.decisions, question) {
        let text = format!("Not authorized to create a subscription for resource {resource}.");
        return answers::sentence(StatusCode::FORBIDDEN, &text);
    }
    let Some(row) = find_or_insert(state, wanted) else {
        return answers::problem(StatusCode::INTERNAL_SERVER_ERROR, "The table is full", None);
    };
    validate(state, &row).await
}

fn find_or_insert(state: &State, wanted: Subscription) -> Option<Subscription> {
    let mut tables = state.tables();
    let found = tables.subscriptions.values().find(|row| row.same(&wanted)).cloned();
    if found.is_some() {
        return found;
    }
    tables.counts.subscriptions_created += 1;
    tables.insert(wanted)
}

/// Always a validation, whatever the row's state; then the 201.
async fn validate(state: &Arc<State>, row: &Subscription) -> Answer {
    let fault = state.tables().faults.events;
    if fault == Some(EventsFault::ErrorAfterInsert) {
        return answers::problem(StatusCode::INTERNAL_SERVER_ERROR, "No queue", None);
    }
    if fault != Some(EventsFault::NeverValidate) {
        let Some(first) = jobs::validate(state, row.clone()) else {
            return answers::problem(StatusCode::INTERNAL_SERVER_ERROR, "The queue is full", None);
        };
        if fault == Some(EventsFault::ValidateFirst) {
            // Its end is all that matters; a stop ends it without a message.
            drop(first.await);
        }
    }
    let mut answer = answers::json(StatusCode::CREATED, row);
    let location = format!("/events/api/v1/subscription/{}", row.id);
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

#[derive(Serialize)]
struct List<'r> {
    count: usize,
    subscriptions: Vec<&'r Subscription>,
}

/// `GET subscriptions`: the caller's own, validated or not.
pub(in crate::simulator) fn list(state: &State, caller: &Caller) -> Answer {
    let tables = state.tables();
    let rows: Vec<&Subscription> =
        tables.subscriptions.values().filter(|row| row.consumer == caller.consumer).collect();
    answers::json(StatusCode::OK, &List { count: rows.len(), subscriptions: rows })
}

/// The row, if there is one and it is the caller's: 404 comes before 403.
fn own(state: &State, caller: &Caller, id: &str) -> Result<Subscription, Box<Answer>> {
    let id: i32 = id.parse().map_err(|_| {
        Box::new(answers::invalid("id", &format!("The value '{id}' is not valid.")))
    })?;
    let row = state.tables().subscriptions.get(&id).cloned();
    let row = row.ok_or_else(|| Box::new(answer::empty(StatusCode::NOT_FOUND)))?;
    if row.created_by == caller.consumer {
        Ok(row)
    } else {
        Err(answer::empty(StatusCode::FORBIDDEN).into())
    }
}

/// `GET subscriptions/{id}`.
pub(in crate::simulator) fn get(state: &State, caller: &Caller, id: &str) -> Answer {
    match own(state, caller, id) {
        Ok(row) => answers::json(StatusCode::OK, &row),
        Err(refusal) => *refusal,
    }
}

/// `DELETE subscriptions/{id}`. Jobs that are queued go on, and so do cached matches.
pub(in crate::simulator) fn delete(state: &State, caller: &Caller, id: &str) -> Answer {
    match own(state, caller, id) {
        Ok(row) => {
            state.tables().subscriptions.remove(&row.id);
            answer::empty(StatusCode::OK)
        }
        Err(refusal) => *refusal,
    }
}

/// A row that was not asked for over the API: somebody else's, or our own with a foreign endpoint.
pub(in crate::simulator) fn foreign(state: &State, body: &Value) -> Answer {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let flag = |name: &str, default| body.get(name).and_then(Value::as_bool).unwrap_or(default);
    let (Some(end_point), Some(consumer)) = (text("endPoint"), text("consumer")) else {
        return answers::json(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "endPoint and consumer are required" }),
        );
    };
    let row = Subscription {
        id: 0,
        end_point,
        source_filter: text("sourceFilter"),
        resource_filter: text("resourceFilter"),
        subject_filter: text("subjectFilter"),
        type_filter: text("typeFilter"),
        created_by: text("createdBy").unwrap_or_else(|| consumer.clone()),
        consumer,
        created: state.now(),
        validated: flag("validated", true),
        include_subunits: flag("includeSubunits", false),
    };
    match state.tables().insert(row) {
        Some(row) => answers::json(StatusCode::CREATED, &row),
        None => answer::empty(StatusCode::INSUFFICIENT_STORAGE),
    }
}

#[cfg(test)]
mod tests;
