//! What Altinn Events has for this identity, beside what is configured.

use std::{sync::Arc, time::Duration};

use super::{
    context::Context,
    report::{Finding, Report},
    sign_in::SignedIn,
};
use crate::{
    altinn::{
        auth::{
            cache::TokenCache,
            token::{AccessToken, TokenError, TokenSource},
        },
        events_api::{ApiError, EventsApi},
        subscriptions::{
            api::given,
            commands::{self, Listed},
        },
    },
    config::Subscription,
    name::HookName,
};

const SUBSCRIBE: &str = "altinn:events.subscribe";
/// A validation that is under way gets this long.
const LOOKS: u32 = 5;
const BETWEEN: Duration = Duration::from_secs(1);

/// The token at hand, and no other.
#[derive(Debug)]
struct AtHand(AccessToken);

impl TokenSource for AtHand {
    async fn token(&self) -> Result<AccessToken, TokenError> {
        Ok(self.0.clone())
    }
}

/// Checks 11 and 12.
pub(crate) async fn check(context: &Context<'_>, signed_in: &SignedIn, report: &mut Report<'_>) {
    let tokens = TokenCache::new(AtHand(signed_in.token.clone()), context.caller.clock.clone());
    let events = EventsApi::new(Arc::new(tokens), Arc::clone(&context.platform));
    let listed = commands::list(&events, &context.config.server.public_url).await;
    let good = report.add(listing(context, signed_in, listed.as_ref()));
    let (true, Ok(mut rows)) = (good, listed) else {
        report.add(Finding::skipped("validation", "the subscriptions cannot be judged"));
        return;
    };
    if context.config.subscriptions.is_empty() {
        report.add(Finding::skipped("validation", "there are no subscriptions"));
        return;
    }
    for _ in 1..LOOKS {
        let awaited = |(name, wanted): (&HookName, &Subscription)| {
            let mut found = ours(&rows, name, wanted).peekable();
            found.peek().is_some() && found.all(|row| !row.validated)
        };
        if !context.names().any(awaited) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        match commands::list(&events, &context.config.server.public_url).await {
            Ok(fresh) => rows = fresh,
            Err(_) => break,
        }
    }
    for (name, wanted) in context.names() {
        report.add(validated(context, &rows, name, wanted).of(name.to_string()));
    }
}

fn listing(
    context: &Context<'_>,
    signed_in: &SignedIn,
    listed: Result<&Vec<Listed>, &ApiError>,
) -> Finding {
    let rows = match listed {
        Ok(rows) => rows,
        Err(error) => {
            let cure = match error {
                ApiError::Unauthorized(_) => "check altinn.environment: the token is not Altinn's",
                ApiError::Busy { .. } | ApiError::Unreachable(_) => {
                    "wait and look again; Altinn's status is at status.digdir.no"
                }
                ApiError::Token(_)
                | ApiError::MissingScope
                | ApiError::NotAuthorized(_)
                | ApiError::OtherOwner
                | ApiError::NotFound
                | ApiError::Rejected { .. }
                | ApiError::Malformed(_) => "ask Altinn's service desk (servicedesk@altinn.no)",
            };
            return Finding::bad("subscriptions", error.to_string(), cure);
        }
    };
    if !signed_in.has(SUBSCRIBE) {
        let seen = format!("the token lacks {SUBSCRIBE}: Altinn would refuse to subscribe (403)");
        return Finding::bad("subscriptions", seen, "add the scope to the client");
    }
    let own = rows.iter().filter(|row| row.ours).count();
    let configured = context.config.subscriptions.len();
    let others = rows.len() - own;
    let seen = format!("Altinn has {own} of ours and {others} others; {configured} configured");
    Finding::good("subscriptions", seen)
}

/// The rows that are this subscription.
fn ours<'r>(
    rows: &'r [Listed],
    name: &'r HookName,
    wanted: &'r Subscription,
) -> impl Iterator<Item = &'r Listed> {
    rows.iter().filter(move |row| {
        row.name.as_deref() == Some(name.as_str())
            && row.resource.as_deref() == Some(wanted.resource.to_lowercase().as_str())
            && given(row.subject.as_deref()) == wanted.subject.as_deref()
            && given(row.ty.as_deref()) == wanted.ty.as_deref()
            && row.include_subunits == wanted.include_subunits
    })
}

fn validated(
    context: &Context<'_>,
    rows: &[Listed],
    name: &HookName,
    wanted: &Subscription,
) -> Finding {
    let found: Vec<_> = ours(rows, name, wanted).collect();
    if let Some(row) = found.iter().find(|row| row.validated) {
        return Finding::good("validation", format!("subscription {} is validated", row.id));
    }
    if let Some(row) = found.first() {
        let seen = format!(
            "subscription {} is not validated: Altinn got no good answer from the hook",
            row.id
        );
        let cure = "see that the internet reaches public_url, under a certificate that everyone \
                    trusts; then `brevdue subscriptions apply`";
        return Finding::bad("validation", seen, cure);
    }
    match context.daemon {
        None => Finding::skipped("validation", "not subscribed yet: `brevdue run` does that"),
        Some(daemon) => {
            let error = daemon.errors.get(name.as_str());
            let why = error.map_or("the daemon has not said why", String::as_str);
            let seen = format!("Altinn does not have the subscription: {why}");
            let cure = "if the policy forbids it, have `subscribe` on the resource delegated to this \
                        identity; see `brevdue status`";
            Finding::bad("validation", seen, cure)
        }
    }
}
