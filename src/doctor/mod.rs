//! Looks at everything between this machine and an event that is pushed, step by step, and says
//! what is wrong and what to do.
//!
//! Owns the checks that ask Maskinporten, Altinn, and our own public address. It changes nothing,
//! anywhere: it makes tokens, and reads. No token and no secret is in what it tells.

pub mod context;
mod failures;
pub mod machine;
mod owners;
mod public_url;
pub mod report;
mod rights;
pub mod service_user;
mod sign_in;
mod subscriptions;
mod vendor;

use self::{
    context::{Context, Daemon},
    report::{Finding, Report},
};
use crate::{clock::Clock, config::Config};

/// Runs every check that asks somebody; `daemon` is what runs here, if it does.
pub async fn examine(
    config: &Config,
    daemon: Option<&Daemon>,
    clock: &Clock,
    report: &mut Report<'_>,
) {
    match &config.altinn {
        None => {
            report.add(Finding::skipped("altinn", "there is no [altinn] in the configuration"));
        }
        Some(altinn) => match Context::new(config, altinn, daemon, clock) {
            Ok(context) => with_altinn(&context, report).await,
            Err(fault) => {
                let cure = "see that the file is there and that this user may read it";
                report.add(Finding::bad("altinn", fault, cure));
            }
        },
    }
    public_url::check(config, daemon.is_some(), clock, report).await;
}

async fn with_altinn(context: &Context<'_>, report: &mut Report<'_>) {
    sign_in::clock_and_metadata(context, report).await;
    let signed_in = if sign_in::key(context, report) {
        sign_in::tokens(context, report).await
    } else {
        for check in ["token", "system user", "exchange"] {
            report.add(Finding::skipped(check, "there is no key to sign in with"));
        }
        None
    };
    rights::resources(context, report).await;
    let Some(signed_in) = signed_in else {
        for check in ["read access", "scopes", "subscriptions", "validation", "vendor"] {
            report.add(Finding::skipped(check, "there is no Altinn token to ask with"));
        }
        return;
    };
    rights::read_access(context, &signed_in, report).await;
    rights::scopes(context, &signed_in, report);
    owners::check(context, &signed_in, report).await;
    subscriptions::check(context, &signed_in, report).await;
    vendor::check(context, &signed_in, report).await;
}
