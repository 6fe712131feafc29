//! How Maskinporten says no: its errors and codes, in the shape of RFC 6749.

use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::{server::Answer, simulator::answers};

/// Why there is no token.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::simulator) struct Refusal {
    error: &'static str,
    code: Option<&'static str>,
    description: String,
}

impl Refusal {
    pub(in crate::simulator) fn new(
        error: &'static str,
        code: Option<&'static str>,
        description: &str,
    ) -> Self {
        Self { error, code, description: description.to_owned() }
    }

    pub(in crate::simulator) fn grant(code: Option<&'static str>, description: &str) -> Self {
        Self::new("invalid_grant", code, description)
    }

    /// The client has not shown who it is.
    pub(super) fn authentication(code: Option<&'static str>, reason: &str) -> Self {
        let all = format!("Invalid assertion. Client authentication failed. {reason}");
        Self::grant(code, all.trim_end())
    }

    pub(in crate::simulator) fn malformed() -> Self {
        let text = "Invalid assertion. Invalid parameter value";
        Self::new("invalid_request", Some("MP-011"), text)
    }

    pub(super) fn answer(&self, issuer: &str) -> Answer {
        let trace = Uuid::new_v4().simple();
        let mut body = json!({
            "error": self.error,
            "error_description": format!("{} (trace_id: {trace})", self.description),
        });
        if let (Some(code), Some(members)) = (self.code, body.as_object_mut()) {
            members.insert("error_uri".to_owned(), format!("{issuer}errors/{code}").into());
        }
        answers::json(StatusCode::BAD_REQUEST, &body)
    }
}
