//! What a vendor may ask about its system and the system users of its customers.
//!
//! Each client has one system, `{org}_brevdue`; its system users are those of the options, and each
//! was requested and accepted.

use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::{
    server::{Answer, answer},
    simulator::{
        answers,
        auth::exchange::Caller,
        options::{Client, SystemUser},
        state::{State, VendorFault},
    },
};

const REGISTER: &str = "altinn:authentication/systemregister.write";
const WRITE: &str = "altinn:authentication/systemuser.request.write";
const READ: &str = "altinn:authentication/systemuser.request.read";

/// Answers `path`, which stands after `authentication/api/v1`; `None` if it is none of these.
pub(in crate::simulator) fn route(
    state: &State,
    headers: &HeaderMap,
    path: &[&str],
    query: &str,
) -> Option<Answer> {
    let scope = match path {
        ["systemregister", "vendor", _] => REGISTER,
        ["systemuser", "vendor", "byquery"] => WRITE,
        ["systemuser", "request", "vendor", "byexternalref", _, _, _] => READ,
        _ => return None,
    };
    let Some(caller) = Caller::of(state, headers) else {
        return Some(answer::empty(StatusCode::UNAUTHORIZED));
    };
    if !caller.may(scope) {
        return Some(answer::empty(StatusCode::FORBIDDEN));
    }
    let parameter = |name: &str| {
        let mut all = url::form_urlencoded::parse(query.as_bytes());
        all.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    };
    let body = match path {
        ["systemregister", "vendor", id] => system(state, id),
        ["systemuser", "request", "vendor", "byexternalref", id, org, external_ref] => {
            let external_ref = percent_encoding::percent_decode_str(external_ref);
            request(state, id, org, &external_ref.decode_utf8_lossy())
        }
        _ => {
            let (id, org) = (parameter("system-id")?, parameter("orgno")?);
            system_user(state, &id, &org, parameter("external-ref").as_deref())
        }
    };
    Some(match body {
        Some(body) => answers::json(StatusCode::OK, &body),
        None => answers::problem(StatusCode::NOT_FOUND, "Not Found", None),
    })
}

fn client<'s>(state: &'s State, system_id: &str) -> Option<&'s Client> {
    state.options.clients.iter().find(|client| client.system_id() == system_id)
}

fn user<'c>(
    state: &State,
    client: &'c Client,
    org: &str,
    external_ref: &str,
) -> Option<&'c SystemUser> {
    if state.tables().faults.vendor == Some(VendorFault::Missing) {
        return None;
    }
    client.system_users.iter().find(|user| {
        user.org == org && user.external_ref.as_deref().unwrap_or(&user.org) == external_ref
    })
}

fn system(state: &State, id: &str) -> Option<serde_json::Value> {
    let client = client(state, id)?;
    let stranger = state.tables().faults.vendor == Some(VendorFault::Client);
    let listed = if stranger { "another-client" } else { client.id.as_str() };
    Some(json!({
        "id": id,
        "systemVendorOrgNumber": client.org,
        "isDeleted": false,
        "clientId": [listed],
        "rights": [],
    }))
}

fn system_user(
    state: &State,
    id: &str,
    org: &str,
    external_ref: Option<&str>,
) -> Option<serde_json::Value> {
    let user = user(state, client(state, id)?, org, external_ref.unwrap_or(org))?;
    Some(json!({
        "id": user.uuid,
        "systemId": id,
        "reporteeOrgNo": user.org,
        "externalRef": user.external_ref.as_deref().unwrap_or(&user.org),
        "isDeleted": false,
    }))
}

fn request(state: &State, id: &str, org: &str, external_ref: &str) -> Option<serde_json::Value> {
    let user = user(state, client(state, id)?, org, external_ref)?;
    let rejected = state.tables().faults.vendor == Some(VendorFault::Rejected);
    Some(json!({
        "id": user.uuid,
        "externalRef": external_ref,
        "systemId": id,
        "partyOrgNo": user.org,
        "status": if rejected { "Rejected" } else { "Accepted" },
    }))
}
