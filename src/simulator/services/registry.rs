//! The resource registry: what a resource is, and what its policy permits.
//!
//! Every listed resource is one of Correspondence's, with a policy that permits everything to
//! somebody; faults take that away.

use http::StatusCode;
use serde_json::json;

use crate::{
    server::{Answer, answer},
    simulator::{
        answers,
        state::{RegistryFault, State},
    },
};

fn known(state: &State, id: &str) -> bool {
    let urn = format!("urn:altinn:resource:{id}");
    let missing = state.tables().faults.registry == Some(RegistryFault::Missing);
    !missing && state.options.resources.contains(&urn)
}

/// `GET resource/{id}`.
pub(in crate::simulator) fn resource(state: &State, id: &str) -> Answer {
    if !known(state, id) {
        return answer::empty(StatusCode::NOT_FOUND);
    }
    let other = state.tables().faults.registry == Some(RegistryFault::Type);
    let body = json!({
        "identifier": id,
        "version": "1.0",
        "title": { "nb": "Nabovarsel", "nn": "Nabovarsel", "en": "Neighbour notice" },
        "status": "Completed",
        "delegable": true,
        "visible": true,
        "hasCompetentAuthority": { "organization": "991825827", "orgcode": "ttd" },
        "accessListMode": "Disabled",
        "resourceType": if other { "GenericAccessResource" } else { "CorrespondenceService" },
    });
    answers::json(StatusCode::OK, &body)
}

/// `GET resource/{id}/policy/rules`.
pub(in crate::simulator) fn rules(state: &State, id: &str) -> Answer {
    if !known(state, id) {
        return answer::empty(StatusCode::NOT_FOUND);
    }
    let no_subscribe = state.tables().faults.registry == Some(RegistryFault::NoSubscribe);
    let actions = ["read", "write", "subscribe"].into_iter();
    let rules: Vec<_> = actions
        .filter(|action| !no_subscribe || *action != "subscribe")
        .map(|action| {
            json!({
                "subject": [{ "type": "urn:altinn:rolecode", "value": "dagl" }],
                "action": { "type": "urn:oasis:names:tc:xacml:1.0:action:action-id", "value": action },
                "resource": [{ "type": "urn:altinn:resource", "value": id }],
            })
        })
        .collect();
    answers::json(StatusCode::OK, &rules)
}
