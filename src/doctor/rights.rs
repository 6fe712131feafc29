//! The resources, what their policies permit, and whether this identity may read.

use serde::Deserialize;

use super::{
    context::Context,
    failures::{unexpected, unreachable},
    report::{Finding, Report},
    sign_in::SignedIn,
};
use crate::altinn::http::{client::Answer, error_text::ErrorText};

pub(crate) const READ: &str = "altinn:correspondence.read";
const WRITE: &str = "altinn:correspondence.write";
pub(super) const PREFIX: &str = "urn:altinn:resource:";
const CORRESPONDENCE: &str = "CorrespondenceService";
pub(super) const REGISTRY: &str = "/resourceregistry/api/v1/resource/";
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
/// Correspondence's own code for "not by the policy", told as 401.
const NO_ACCESS: u64 = 4001;

/// Checks 7 and 8, of each resource.
pub(crate) async fn resources(context: &Context<'_>, report: &mut Report<'_>) {
    let all = context.resources();
    if all.is_empty() {
        for check in ["resource", "policy"] {
            report.add(Finding::skipped(check, "there are no subscriptions"));
        }
    }
    for urn in all {
        let Some(id) = urn.strip_prefix(PREFIX) else {
            for check in ["resource", "policy"] {
                report.add(Finding::skipped(check, "is not in the resource registry").of(urn));
            }
            continue;
        };
        let found = report.add(resource(context, id).await.of(id));
        let policy = if found {
            policy(context, id).await
        } else {
            Finding::skipped("policy", "the resource is not as it should be")
        };
        report.add(policy.of(id));
    }
}

async fn resource(context: &Context<'_>, id: &str) -> Finding {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Resource {
        resource_type: String,
    }
    let answer = match context.get(&format!("{REGISTRY}{id}")).await {
        Err(reason) => return unreachable("resource", "Altinn", &reason),
        Ok(answer) => answer,
    };
    if answer.status == http::StatusCode::NOT_FOUND {
        let cure = "check the subscription's resource, and altinn.environment: test and production \
                    have registers of their own";
        return Finding::bad("resource", "Altinn has no such resource", cure);
    }
    if !answer.status.is_success() {
        return unexpected("resource", &answer);
    }
    match serde_json::from_slice::<Resource>(&answer.body) {
        Err(_) => Finding::bad("resource", "not the expected JSON", "ask Altinn's service desk"),
        Ok(found) if found.resource_type == CORRESPONDENCE => {
            Finding::good("resource", format!("is a {CORRESPONDENCE}"))
        }
        Ok(found) => {
            let ty = ErrorText::new(&found.resource_type).text;
            let seen = format!("is a {ty}, not a {CORRESPONDENCE}");
            // Other services publish events too; then there is just nothing to fetch.
            if context.asks_for(READ) {
                let cure = format!("check the subscription's resource, or leave out {READ}");
                Finding::bad("resource", seen, cure)
            } else {
                Finding::good("resource", seen)
            }
        }
    }
}

async fn policy(context: &Context<'_>, id: &str) -> Finding {
    #[derive(Deserialize)]
    struct Rule {
        action: Action,
    }
    #[derive(Deserialize)]
    struct Action {
        value: String,
    }
    let answer = match context.get(&format!("{REGISTRY}{id}/policy/rules")).await {
        Err(reason) => return unreachable("policy", "Altinn", &reason),
        Ok(answer) if !answer.status.is_success() => return unexpected("policy", &answer),
        Ok(answer) => answer,
    };
    let Ok(rules) = serde_json::from_slice::<Vec<Rule>>(&answer.body) else {
        return Finding::bad("policy", "not the expected JSON", "ask Altinn's service desk");
    };
    let permits =
        |action: &str| rules.iter().any(|rule| rule.action.value.eq_ignore_ascii_case(action));
    let mut needed = vec!["subscribe"];
    if context.asks_for(READ) {
        needed.push("read");
    }
    let missing: Vec<_> = needed.iter().filter(|action| !permits(action)).copied().collect();
    if missing.is_empty() {
        return Finding::good("policy", format!("has rules for {}", needed.join(" and ")));
    }
    let missing = missing.join(" and ");
    let cure = format!("ask the service owner to add {missing} to the resource's policy");
    Finding::bad("policy", format!("has no rule for {missing}"), cure)
}

/// Check 9, of each resource.
pub(crate) async fn read_access(
    context: &Context<'_>,
    signed_in: &SignedIn,
    report: &mut Report<'_>,
) {
    let ids: Vec<_> =
        context.resources().into_iter().filter_map(|urn| urn.strip_prefix(PREFIX)).collect();
    if !context.asks_for(READ) || ids.is_empty() {
        let why = if ids.is_empty() {
            "there are no subscriptions".to_owned()
        } else {
            format!("{READ} is not among the scopes: brevdue takes events only")
        };
        report.add(Finding::skipped("read access", why));
        return;
    }
    for id in ids {
        let from = context.caller.clock.now().before(DAY).to_string();
        let query = [("resourceId", id), ("role", "Recipient"), ("from", from.as_str())];
        let path = "/correspondence/api/v1/correspondence";
        let finding = match context.get_as(&signed_in.token, path, &query).await {
            Err(reason) => unreachable("read access", "Altinn", &reason),
            Ok(answer) => searched(&answer),
        };
        report.add(finding.of(id));
    }
}

fn searched(answer: &Answer) -> Finding {
    #[derive(Deserialize)]
    struct Found {
        ids: Vec<serde::de::IgnoredAny>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Problem {
        error_code: Option<u64>,
    }
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status.as_u16() {
        200 => match serde_json::from_slice::<Found>(&answer.body) {
            Ok(found) => {
                Finding::good("read access", format!("{} in the last day", found.ids.len()))
            }
            Err(_) => {
                Finding::bad("read access", "not the expected JSON", "ask Altinn's service desk")
            }
        },
        401 if problem.error_code == Some(NO_ACCESS) => Finding::bad(
            "read access",
            "the policy does not permit this identity to read (401, error code 4001)",
            "have the right delegated: to the system user, for this resource and organisation",
        ),
        401 => Finding::bad(
            "read access",
            "Altinn refuses the token (401)",
            "check that altinn.environment is the one that the client is registered for",
        ),
        403 => Finding::bad(
            "read access",
            format!("the token lacks {READ}, or is another environment's (403)"),
            "add the scope to the client in Digdir's self service",
        ),
        _ => unexpected("read access", answer),
    }
}

/// Check 10: what the token is good for, and that it is not good for too much.
pub(crate) fn scopes(context: &Context<'_>, signed_in: &SignedIn, report: &mut Report<'_>) {
    let wanted = &context.altinn.maskinporten.scopes;
    let missing: Vec<_> =
        wanted.iter().filter(|scope| !signed_in.has(scope)).map(String::as_str).collect();
    let finding = if !missing.is_empty() {
        let seen = format!("asked for and not granted: {}", missing.join(" "));
        Finding::bad("scopes", seen, "add them to the client in Digdir's self service")
    } else if signed_in.has(READ) && signed_in.has(WRITE) {
        let seen = format!("{READ} and {WRITE} are in one token");
        let cure = format!(
            "take {WRITE} out of scopes: with it Correspondence takes a reader for the sender, and \
             nothing can be confirmed (error code 1025)"
        );
        Finding::bad("scopes", seen, cure)
    } else {
        Finding::good("scopes", signed_in.scopes.join(" "))
    };
    report.add(finding);
}
