//! Whether a subscription may go without a subject: only a resource's owner may ask for everyone's
//! events.
//!
//! The registry knows the owner, and the token says whether its client is that: Altinn puts
//! `urn:altinn:org` into it for a service owner that asks for a scope of `altinn:serviceowner`.

use serde::Deserialize;
use serde_json::Value;

use super::{
    context::Context,
    failures::{unexpected, unreachable},
    report::{Finding, Report},
    rights::{PREFIX, REGISTRY},
    sign_in::SignedIn,
};
use crate::{altinn::http::error_text::ErrorText, config::Subscription, name::HookName};

const CHECK: &str = "subject";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    has_competent_authority: Authority,
}

#[derive(Default, Deserialize)]
struct Authority {
    organization: Option<String>,
    orgcode: Option<String>,
}

/// Of each subscription without a subject.
pub(super) async fn check(context: &Context<'_>, signed_in: &SignedIn, report: &mut Report<'_>) {
    for (name, wanted) in context.names().filter(|(_, wanted)| wanted.subject.is_none()) {
        report.add(one(context, signed_in, name, wanted).await.of(name.as_str()));
    }
}

async fn one(
    context: &Context<'_>,
    signed_in: &SignedIn,
    name: &HookName,
    wanted: &Subscription,
) -> Finding {
    let Some(id) = wanted.resource.strip_prefix(PREFIX) else {
        return Finding::skipped(CHECK, "there is none; the resource is not in the registry");
    };
    let answer = match context.get(&format!("{REGISTRY}{id}")).await {
        Err(reason) => return unreachable(CHECK, "Altinn", &reason),
        Ok(answer) if !answer.status.is_success() => return unexpected(CHECK, &answer),
        Ok(answer) => answer,
    };
    match serde_json::from_slice::<Resource>(&answer.body) {
        Ok(found) => judged(&found.has_competent_authority, &signed_in.claims(), name),
        Err(_) => Finding::bad(CHECK, "not the expected JSON", "ask Altinn's service desk"),
    }
}

fn judged(owner: &Authority, claims: &Value, name: &HookName) -> Finding {
    let same = |ours: Option<&str>, theirs: Option<&str>| {
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs))
    };
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    if same(text("urn:altinn:org"), owner.orgcode.as_deref()) {
        return Finding::good(CHECK, "there is none, and the client is the resource's owner");
    }
    let whose = owner.orgcode.as_deref().map_or_else(
        || "another organisation's".to_owned(),
        |code| format!("{}'s", ErrorText::new(code).text),
    );
    let key = format!("subscriptions.{name}.subject");
    if same(text("urn:altinn:orgNumber"), owner.organization.as_deref()) {
        let cure = format!(
            "add altinn:serviceowner to altinn.maskinporten.scopes and to the client, or set {key}"
        );
        let seen = "there is none, and the token does not say that the client owns the resource: \
                    Altinn refuses to subscribe (403)";
        return Finding::bad(CHECK, seen, cure);
    }
    let seen = format!(
        "there is none, and the resource is {whose}: Altinn lets only its owner subscribe to \
         everyone's events (403)"
    );
    let cure = format!("set {key} to the organisation number whose events are wanted");
    Finding::bad(CHECK, seen, cure)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::report::Outcome;

    #[test]
    fn only_the_owner_goes_without_a_subject() {
        let owner = Authority {
            organization: Some("991825827".to_owned()),
            orgcode: Some("ttd".to_owned()),
        };
        let name = "a".parse().unwrap();
        for (claims, outcome, words) in [
            (json!({ "urn:altinn:org": "TTD" }), Outcome::Good, ""),
            (json!({ "urn:altinn:orgNumber": "991825827" }), Outcome::Bad, "altinn:serviceowner"),
            (
                json!({ "urn:altinn:orgNumber": "999888777" }),
                Outcome::Bad,
                "subscriptions.a.subject",
            ),
            (json!({ "urn:altinn:org": "skd" }), Outcome::Bad, "ttd's"),
            (json!({}), Outcome::Bad, "403"),
        ] {
            let found = judged(&owner, &claims, &name);
            assert_eq!(found.outcome, outcome, "{claims}");
            assert!(found.to_string().contains(words), "{found}");
        }
        let unknown = judged(&Authority::default(), &json!({}), &name);
        assert_eq!(unknown.outcome, Outcome::Bad);
    }
}
