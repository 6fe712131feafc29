//! Correspondence, as much of it as tells whether a recipient may read: the search.

use http::{HeaderMap, StatusCode, header::ACCEPT};
use serde_json::json;

use crate::{
    server::{Answer, answer},
    simulator::{
        answers,
        auth::{
            exchange::Caller,
            policy::{self, Question},
        },
        state::{SearchFault, State},
    },
};

const READ: &str = "altinn:correspondence.read";
const WRITE: &str = "altinn:correspondence.write";
const ROLES: [&str; 3] = ["recipient", "sender", "recipientandsender"];

/// `GET correspondence`.
pub(in crate::simulator) fn search(state: &State, headers: &HeaderMap, query: &str) -> Answer {
    let Some(caller) = Caller::of(state, headers) else {
        state.tables().counts.unauthorized += 1;
        return answer::empty(StatusCode::UNAUTHORIZED);
    };
    let accept = headers.get(ACCEPT).map(|value| value.to_str().unwrap_or_default());
    if accept.is_some_and(|text| !text.contains("application/json") && !text.contains("*/*")) {
        let text = "This endpoint does not support the requested Accept header. Supported Accept \
                    headers are: application/json, */*.";
        return answer::text(StatusCode::NOT_ACCEPTABLE, "text/plain; charset=utf-8", text);
    }
    if !caller.may(READ) && !caller.may(WRITE) {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let parameter = |name: &str| {
        let mut all = url::form_urlencoded::parse(query.as_bytes());
        all.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    };
    let role = parameter("role").unwrap_or_default().to_ascii_lowercase();
    if !ROLES.contains(&role.as_str()) {
        return answers::invalid("role", "The role field is required.");
    }
    let Some(resource) = parameter("resourceId") else {
        return answers::invalid("resourceId", "The resourceId field is required.");
    };
    decided(state, &caller, &format!("urn:altinn:resource:{resource}"))
}

/// A denial is 401 here, with an error code that tells it from a bad token.
fn decided(state: &State, caller: &Caller, resource: &str) -> Answer {
    let (fault, decisions) = {
        let tables = state.tables();
        (tables.faults.search, tables.faults.decisions.clone())
    };
    let question = Question { consumer: &caller.consumer, resource, subject: Some("") };
    let permitted = policy::permits(&state.options, &decisions, question);
    match fault {
        Some(SearchFault::Error) => {
            answers::problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", None)
        }
        None if permitted => answers::json(StatusCode::OK, &json!({ "ids": [] })),
        Some(SearchFault::NoAccess) | None => {
            let detail = "You must use an Altinn token, DialogToken or log in to IDPorten as \
                          someone with access to the resource and organization in Altinn \
                          Authorization";
            let body = json!({
                "type": "https://tools.ietf.org/html/rfc9110#section-15.5.2",
                "title": "Unauthorized",
                "status": 401,
                "detail": detail,
                "code": "CORR-04001",
                "errorCode": 4001,
            });
            answers::json(StatusCode::UNAUTHORIZED, &body)
        }
    }
}
