//! The shapes of Altinn's answers: empty, a bare JSON string, an RFC 7807 object, JSON.

use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::state::{Call, State};
use crate::server::{Answer, answer};

const JSON: &str = "application/json; charset=utf-8";

/// JSON, compact.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer::text(status, JSON, body),
        Err(_) => answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A bare JSON string, quotes and all: how subscription rules are refused.
pub(super) fn sentence(status: StatusCode, text: &str) -> Answer {
    json(status, &text)
}

/// An RFC 7807 object.
pub(super) fn problem(status: StatusCode, title: &str, detail: Option<&str>) -> Answer {
    let mut body = json!({
        "type": "https://tools.ietf.org/html/rfc9110#section-15",
        "title": title,
        "status": status.as_u16(),
        "traceId": trace_id(),
    });
    if let (Some(detail), Some(members)) = (detail, body.as_object_mut()) {
        members.insert("detail".to_owned(), Value::from(detail));
    }
    json(status, &body)
}

/// The 400 of model binding, with what is wrong by field.
pub(super) fn invalid(field: &str, error: &str) -> Answer {
    let body = json!({
        "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "errors": { field: [error] },
        "traceId": trace_id(),
    });
    json(StatusCode::BAD_REQUEST, &body)
}

/// The answer of a call that is to fail by itself.
pub(super) fn failing(state: &State, call: Call) -> Option<Answer> {
    let (status, retry_after) = {
        let faults = &state.tables().faults;
        (faults.status.get(&call).copied()?, faults.retry_after)
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = answer::empty(status);
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Some(answer)
}

fn trace_id() -> String {
    let id = Uuid::new_v4().simple().to_string();
    let span: String = id.chars().take(16).collect();
    format!("00-{id}-{span}-00")
}
