//! Whom and what a token is for: the consumer, the audience, the system user.
//!
//! Owns those three claims of an assertion. Who asks, and for which scopes, is `maskinporten`'s.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{refusal::Refusal, tokens::Jwt};
use crate::simulator::options::Client;

pub(in crate::simulator) const SYSTEM_USER: &str = "urn:altinn:systemuser";
/// The scheme of organisation numbers in tokens.
pub(in crate::simulator) const ORG_AUTHORITY: &str = "iso6523-actorid-upis";

/// Who the token is for, if it is not the client's own organisation.
pub(in crate::simulator) fn consumer(
    client: &Client,
    jwt: &Jwt<'_>,
    scope: &str,
) -> Result<Option<String>, Refusal> {
    let Some(claim) = jwt.claims.get("consumer_org") else { return Ok(None) };
    let is_org = |org: &&str| org.len() == 9 && org.bytes().all(|c| c.is_ascii_digit());
    let consumer = claim.as_str().filter(is_org).ok_or_else(Refusal::malformed)?;
    if consumer == client.org {
        let text = "Validation of JWT claim failed: The combination consumer_org in claim and \
                    delegation scope on client is invalid";
        return Err(Refusal::grant(None, text));
    }
    let delegated = |scope: &str| {
        client.delegations.iter().any(|one| one.consumer == consumer && one.scope == scope)
    };
    match scope.split(' ').find(|scope| !delegated(scope)) {
        None => Ok(Some(consumer.to_owned())),
        Some(scope) => {
            let supplier = &client.org;
            let text = format!(
                "Consumer {consumer} has not delegated access to the scope {scope} to supplier \
                 {supplier}"
            );
            Err(Refusal::new("invalid_scope", Some("MP-251"), &text))
        }
    }
}

/// `resource`: an array or nothing.
pub(in crate::simulator) fn audience(jwt: &Jwt<'_>) -> Result<Option<Value>, Refusal> {
    match jwt.claims.get("resource") {
        None => Ok(None),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            Ok(Some(Value::Array(items.clone())))
        }
        Some(_) => Err(Refusal::malformed()),
    }
}

/// What the token says of the system user; `None` when none was asked for.
pub(in crate::simulator) fn authorization_details(
    client: &Client,
    jwt: &Jwt<'_>,
) -> Result<Option<Value>, Refusal> {
    let Some(details) = jwt.claims.get("authorization_details") else { return Ok(None) };
    let refuse = |code, text| Refusal::new("invalid_authorization_details", Some(code), text);
    let unknown_type = || refuse("MP-301", "Unknown authorization details type");
    let unknown_fields = || refuse("MP-302", "Unknown fields in the authorization details");
    let detail = match details.as_array().map(Vec::as_slice) {
        Some([detail]) => detail.as_object().ok_or_else(unknown_type)?,
        _ => return Err(unknown_type()),
    };
    if detail.get("type").and_then(Value::as_str) != Some(SYSTEM_USER) {
        return Err(unknown_type());
    }
    let org = detail.get("systemuser_org").and_then(Value::as_object);
    let only = |map: &Map<String, Value>, known: &[&str]| {
        map.keys()
            .map(String::as_str)
            .collect::<HashSet<_>>()
            .is_subset(&known.iter().copied().collect())
    };
    if !only(detail, &["type", "systemuser_org", "externalRef"])
        || !org.is_some_and(|org| only(org, &["authority", "ID"]))
    {
        return Err(unknown_fields());
    }
    let field = |name: &str| org.and_then(|org| org.get(name)).and_then(Value::as_str);
    system_user(client, field("authority"), field("ID"), detail.get("externalRef"))
        .map(Some)
        .ok_or_else(|| {
            let text = "Invalid authorization details values";
            Refusal::new("invalid_altinn_customer_configuration", Some("MP-303"), text)
        })
}

fn system_user(
    client: &Client,
    authority: Option<&str>,
    id: Option<&str>,
    external_ref: Option<&Value>,
) -> Option<Value> {
    let org = id?.strip_prefix("0192:")?;
    let wanted = external_ref.map_or(Some(org), Value::as_str)?;
    let user = client.system_users.iter().find(|user| {
        user.org == org && user.external_ref.as_deref().unwrap_or(&user.org) == wanted
    })?;
    (authority == Some(ORG_AUTHORITY)).then(|| {
        json!([{
            "type": SYSTEM_USER,
            "systemuser_org": { "authority": ORG_AUTHORITY, "ID": id },
            "systemuser_id": [user.uuid],
            "system_id": client.system_id(),
        }])
    })
}
