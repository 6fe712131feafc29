//! Which call is which, and what is checked before any of them: the API key, the token, the scope.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::RETRY_AFTER, request::Parts};
use serde_json::json;
use tokio::time::sleep;

use super::{
    answers,
    auth::{
        exchange::{self, Caller, media_type},
        maskinporten,
    },
    control,
    events::{cloud_event::CloudEvent, feed, jobs, subscriptions},
    services::{correspondence, registry, vendor},
    state::{Call, Counts, EventsFault, Hang, State},
};
use crate::server::{Answer, Peer, RequestBody, Service, answer, body};

const MAX_BODY: usize = 1024 * 1024;
const BODY_TIME: Duration = Duration::from_secs(30);
const SLOW: Duration = Duration::from_secs(3);
const PUBLISH: &str = "altinn:events.publish";

/// The stand-in's HTTP side.
pub(super) struct Routes(pub(super) Arc<State>);

impl Service for Routes {
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
        let (parts, incoming) = request.into_parts();
        match body::read(incoming, MAX_BODY, BODY_TIME).await {
            Ok(body) => route(&self.0, &parts, &body).await,
            Err(_) => answer::empty(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }
}

async fn route(state: &Arc<State>, parts: &Parts, body: &Bytes) -> Answer {
    let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match (parts.method.as_str(), path.as_slice()) {
        (_, ["simulator", rest @ ..]) => control::control(state, &parts.method, rest, body),
        ("GET", ["maskinporten", ".well-known", "oauth-authorization-server"]) => {
            maskinporten::metadata(state)
        }
        ("GET", ["maskinporten", "jwk"]) => {
            answers::json(StatusCode::OK, &state.maskinporten_key.jwks())
        }
        ("POST", ["maskinporten", "token"]) => {
            maskinporten::token(state, &parts.headers, body).await
        }
        (_, ["authentication" | "correspondence" | "events" | "resourceregistry", ..]) => {
            platform(state, parts, &path, body).await
        }
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

async fn platform(state: &Arc<State>, parts: &Parts, path: &[&str], body: &Bytes) -> Answer {
    if let Some(refusal) = api_key(state, parts) {
        return refusal;
    }
    match (parts.method.as_str(), path) {
        ("GET", ["authentication", "api", "v1", "exchange", provider]) => {
            let failing = answers::failing(state, Call::Exchange);
            failing.unwrap_or_else(|| exchange::exchange(state, provider, &parts.headers))
        }
        (
            "GET",
            ["authentication", "api", "v1", "openid", ".well-known", "openid-configuration"],
        ) => exchange::metadata(state),
        (
            "GET",
            [
                "authentication",
                "api",
                "v1",
                "openid",
                ".well-known",
                "openid-configuration",
                "jwks",
            ],
        ) => answers::json(StatusCode::OK, &state.altinn_key.jwks()),
        (_, ["events", "api", "v1", rest @ ..]) => events(state, parts, rest, body).await,
        ("GET", [api, "api", "v1", rest @ ..]) => lookup(state, parts, api, rest),
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// What is only read: the resource registry, the system register, Correspondence's search.
fn lookup(state: &State, parts: &Parts, api: &str, path: &[&str]) -> Answer {
    let query = parts.uri.query().unwrap_or_default();
    let not_found = || answer::empty(StatusCode::NOT_FOUND);
    match (api, path) {
        ("resourceregistry", ["resource", id]) => registry::resource(state, id),
        ("resourceregistry", ["resource", id, "policy", "rules"]) => registry::rules(state, id),
        ("correspondence", ["correspondence"]) => {
            correspondence::search(state, &parts.headers, query)
        }
        ("authentication", path) => {
            vendor::route(state, &parts.headers, path, query).unwrap_or_else(not_found)
        }
        _ => not_found(),
    }
}

fn api_key(state: &State, parts: &Parts) -> Option<Answer> {
    let wanted = state.options.api_key.as_ref()?;
    let given = parts.headers.get("Ocp-Apim-Subscription-Key");
    if given.is_some_and(|given| given.as_bytes() == wanted.as_bytes()) {
        return None;
    }
    state.tables().counts.unauthorized += 1;
    let message = "Access denied due to missing subscription key. Make sure to include \
                   subscription key when making requests to an API.";
    let body = json!({ "statusCode": 401, "message": message });
    Some(answers::json(StatusCode::UNAUTHORIZED, &body))
}

async fn events(state: &Arc<State>, parts: &Parts, path: &[&str], body: &Bytes) -> Answer {
    let known = matches!(path, ["subscriptions" | "events"] | ["subscriptions", _]);
    if !known {
        return answer::empty(StatusCode::NOT_FOUND);
    }
    if let Some(counter) = counter(&mut state.tables().counts, &parts.method, path) {
        *counter += 1;
    }
    if let Some(answer) = fault(state).await {
        return answer;
    }
    if let Some(answer) = call(&parts.method, path).and_then(|call| answers::failing(state, call)) {
        return answer;
    }
    let Some(caller) = Caller::of(state, &parts.headers) else {
        state.tables().counts.unauthorized += 1;
        return answer::empty(StatusCode::UNAUTHORIZED);
    };
    let other_type = media_type(&parts.headers).is_some_and(|ty| ty != "application/json");
    if parts.method == Method::GET && other_type {
        return unsupported();
    }
    hang(state, parts, path, false).await;
    let answer = carry_out(state, &caller, (parts, path, body)).await;
    hang(state, parts, path, true).await;
    answer
}

/// Waits for ever, if this is the call that is to have no answer.
async fn hang(state: &State, parts: &Parts, path: &[&str], done: bool) {
    let wanted = match (parts.method.as_str(), path, done) {
        ("GET", ["subscriptions"], false) => Hang::List,
        ("POST", ["subscriptions"], false) => Hang::Post,
        ("POST", ["subscriptions"], true) => Hang::PostDone,
        ("DELETE", ["subscriptions", _], false) => Hang::Delete,
        ("DELETE", ["subscriptions", _], true) => Hang::DeleteDone,
        _ => return,
    };
    let hangs = {
        let mut tables = state.tables();
        let hangs = tables.faults.hang == Some(wanted);
        tables.counts.hanging += u64::from(hangs);
        hangs
    };
    if hangs {
        state.stop.cancelled().await;
    }
}

async fn carry_out(
    state: &Arc<State>,
    caller: &Caller,
    (parts, path, body): (&Parts, &[&str], &Bytes),
) -> Answer {
    match (parts.method.as_str(), path) {
        ("POST", ["subscriptions"]) => {
            subscriptions::create(state, caller, &parts.headers, body).await
        }
        ("GET", ["subscriptions"]) => subscriptions::list(state, caller),
        ("GET", ["subscriptions", id]) => subscriptions::get(state, caller, id),
        ("DELETE", ["subscriptions", id]) => subscriptions::delete(state, caller, id),
        ("GET", ["events"]) if !caller.may(subscriptions::SUBSCRIBE) => {
            answer::empty(StatusCode::FORBIDDEN)
        }
        ("GET", ["events"]) => {
            feed::read(state, caller, parts.uri.query().unwrap_or_default(), &parts.headers)
        }
        ("POST", ["events"]) => publish(state, caller, parts, body),
        _ => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn counter<'c>(counts: &'c mut Counts, method: &Method, path: &[&str]) -> Option<&'c mut u64> {
    match (method.as_str(), path) {
        ("POST", ["subscriptions"]) => Some(&mut counts.subscription_posts),
        ("GET", ["subscriptions"]) => Some(&mut counts.subscription_lists),
        ("GET", ["subscriptions", _]) => Some(&mut counts.subscription_gets),
        ("DELETE", ["subscriptions", _]) => Some(&mut counts.subscription_deletes),
        ("GET", ["events"]) => Some(&mut counts.feed_reads),
        _ => None,
    }
}

/// The call that a fault can name.
fn call(method: &Method, path: &[&str]) -> Option<Call> {
    match (method.as_str(), path) {
        ("GET", ["subscriptions"]) => Some(Call::List),
        ("POST", ["subscriptions"]) => Some(Call::Post),
        ("GET", ["subscriptions", _]) => Some(Call::Get),
        ("DELETE", ["subscriptions", _]) => Some(Call::Delete),
        ("GET", ["events"]) => Some(Call::Feed),
        _ => None,
    }
}

async fn fault(state: &State) -> Option<Answer> {
    let fault = state.tables().faults.events?;
    match fault {
        EventsFault::TooMany => {
            let mut answer = answer::empty(StatusCode::TOO_MANY_REQUESTS);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            Some(answer)
        }
        EventsFault::Error => Some(answers::problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "An error occurred while processing your request.",
            None,
        )),
        EventsFault::Slow => {
            sleep(SLOW).await;
            None
        }
        EventsFault::ErrorAfterInsert | EventsFault::ValidateFirst | EventsFault::NeverValidate => {
            None
        }
    }
}

fn unsupported() -> Answer {
    answers::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type", None)
}

/// `POST events`: as a publisher.
fn publish(state: &Arc<State>, caller: &Caller, parts: &Parts, body: &[u8]) -> Answer {
    if !caller.may(PUBLISH) {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    if media_type(&parts.headers).as_deref() != Some("application/cloudevents+json") {
        return unsupported();
    }
    match CloudEvent::read(body) {
        Ok(event) => answer::empty(jobs::status(jobs::publish(state, event))),
        Err(rule) => answers::problem(StatusCode::BAD_REQUEST, "Bad Request", Some(&rule)),
    }
}
