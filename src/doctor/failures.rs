//! Findings that several checks make: no answer, a strange one, a refusal, a file open to others.

use super::report::Finding;
use crate::altinn::{
    auth::token::{Refused, TokenError},
    http::{client::Answer, error_text::ErrorText},
};
pub(super) use crate::files::operator_file::open_to_others as mode_fault;

/// No answer: the net, a name, a firewall.
pub(super) fn unreachable(check: &'static str, who: &str, reason: &str) -> Finding {
    let cure = "see that this machine reaches it: names, firewall, HTTPS_PROXY";
    Finding::bad(check, format!("{who} cannot be reached: {reason}"), cure)
}

/// An answer that no rule explains.
pub(super) fn unexpected(check: &'static str, answer: &Answer) -> Finding {
    let words = ErrorText::of_body(&answer.body);
    let seen = format!("Altinn answers {}: {words}", answer.status.as_u16());
    let cure = if answer.status.is_server_error() {
        "wait and look again; Altinn's status is at status.digdir.no"
    } else {
        "ask Altinn's service desk (servicedesk@altinn.no), with the time of this call"
    };
    Finding::bad(check, seen, cure)
}

/// Why there is no token.
pub(super) fn refused(check: &'static str, error: &TokenError) -> Finding {
    let refused = error.refused();
    let mut seen = refused.map_or_else(|| error.to_string(), Refused::said);
    if let Some(trace_id) = error.trace_id() {
        seen = format!("{seen} [trace_id {trace_id}]");
    }
    let cure = match refused.and_then(|refused| refused.advice) {
        Some(advice) => format!("{} ({})", advice.cure, advice.meaning),
        None => match error {
            TokenError::Unreachable { .. } => {
                "see that this machine reaches it: names, firewall, HTTPS_PROXY".to_owned()
            }
            TokenError::Secret(_)
            | TokenError::Key { .. }
            | TokenError::Refused(_)
            | TokenError::Malformed { .. }
            | TokenError::NotAccepted
            | TokenError::Earlier(_) => {
                "look again later; if it stays, ask with the trace id".to_owned()
            }
        },
    };
    Finding::bad(check, seen, cure)
}
