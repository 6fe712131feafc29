//! Looks at everything between this machine and an event that is pushed, step by step, and says
//! what is wrong and what to do.
//!
//! Owns the checks that ask Maskinporten, Altinn, and our own public address. It changes nothing,
//! anywhere: it makes tokens, and reads. No token and no secret is in what it tells.

pub mod machine;
mod public_url;
pub mod report;
mod rights;
mod sign_in;
mod subscriptions;
mod vendor;

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use reqwest::Client;

use self::{
    report::{Finding, Report},
    sign_in::SignedIn,
};
use crate::{
    altinn::{
        CALL_TIMEOUT,
        auth::token::{Refused, TokenError},
        http::{
            client::{Answer, Caller, LARGE, Platform},
            error_text::ErrorText,
        },
    },
    clock::Clock,
    config::{self, Config},
    http_client,
    metrics::Metrics,
    name::HookName,
};

/// What a running daemon knows, if one runs.
#[derive(Debug, Clone, Default)]
pub struct Daemon {
    /// What went wrong last with a subscription, where something did.
    pub errors: BTreeMap<String, String>,
}

/// What all checks share.
struct Context<'c> {
    config: &'c Config,
    altinn: &'c config::Altinn,
    daemon: Option<&'c Daemon>,
    client: Client,
    caller: Caller,
    platform: Arc<Platform>,
}

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
        Some(altinn) => match context(config, altinn, daemon, clock) {
            Ok(context) => with_altinn(&context, report).await,
            Err(fault) => {
                let cure = "see that the file is there and that this user may read it";
                report.add(Finding::bad("altinn", fault, cure));
            }
        },
    }
    public_url::check(config, daemon.is_some(), clock, report).await;
}

fn context<'c>(
    config: &'c Config,
    altinn: &'c config::Altinn,
    daemon: Option<&'c Daemon>,
    clock: &Clock,
) -> Result<Context<'c>, String> {
    let client = http_client::build(CALL_TIMEOUT, altinn.ca_file.as_deref());
    let client = client.map_err(|fault| fault.to_string())?;
    let caller = Caller { clock: clock.clone(), metrics: Metrics::default() };
    let key_file = altinn.api_key_file.clone();
    let platform = Platform::new(client.clone(), &altinn.platform_url, key_file, caller.clone());
    let platform = Arc::new(platform.map_err(|fault| fault.to_string())?);
    Ok(Context { config, altinn, daemon, client, caller, platform })
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
    subscriptions::check(context, &signed_in, report).await;
    vendor::check(context, &signed_in, report).await;
}

impl Context<'_> {
    /// GET without a token.
    async fn get(&self, path: &str) -> Result<Answer, String> {
        let request = self.platform.open(reqwest::Method::GET, path);
        self.caller.send("doctor", request, LARGE).await
    }

    /// GET with the token.
    async fn get_as(
        &self,
        signed_in: &SignedIn,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let request = self.platform.request(reqwest::Method::GET, path, signed_in.token.secret());
        self.caller.send("doctor", request.query(query), LARGE).await
    }

    /// The resources that are subscribed to, each once.
    fn resources(&self) -> Vec<&str> {
        let mut all: Vec<_> =
            self.config.subscriptions.values().map(|one| one.resource.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn names(&self) -> impl Iterator<Item = (&HookName, &config::Subscription)> {
        self.config.subscriptions.iter()
    }

    fn asks_for(&self, scope: &str) -> bool {
        self.altinn.maskinporten.scopes.iter().any(|one| one == scope)
    }
}

/// No answer: the net, a name, a firewall.
fn unreachable(check: &'static str, who: &str, reason: &str) -> Finding {
    let cure = "see that this machine reaches it: names, firewall, HTTPS_PROXY";
    Finding::bad(check, format!("{who} cannot be reached: {reason}"), cure)
}

/// An answer that no rule explains.
fn unexpected(check: &'static str, answer: &Answer) -> Finding {
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
fn refused(check: &'static str, error: &TokenError) -> Finding {
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
            | TokenError::Earlier(_) => {
                "look again later; if it stays, ask with the trace id".to_owned()
            }
        },
    };
    Finding::bad(check, seen, cure)
}

/// What is wrong with the mode of a file with a secret in it, if it is there. Its group may read
/// it: so a service gets files that root keeps.
pub fn mode_fault(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o027 != 0).then(|| format!("{} has mode {mode:04o}", path.display()))
}
