//! From a clock and a key to an Altinn token.

use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    context::Context,
    failures::{mode_fault, refused, unexpected, unreachable},
    report::{Finding, Report},
};
use crate::{
    altinn::{
        auth::{
            exchange::{self, Exchange},
            maskinporten::{Grant, Maskinporten, Wanted, discovery::Discovery, identity::Identity},
            token::{AccessToken, TokenError},
        },
        http::client::Answer,
    },
    config::KeyName,
};

const CLOCK_CURE: &str = "synchronise the clock (systemd-timesyncd, chrony): Maskinporten takes \
                          10 s either way";
const PLACE_CURE: &str = "check altinn.environment, and what stands between this machine and it";
/// A certificate that ends sooner is to be renewed now.
const CERTIFICATE_DAYS: u64 = 30;
const DAY: u64 = 24 * 60 * 60;

/// What signing in gave.
pub(crate) struct SignedIn {
    pub(crate) maskinporten: Maskinporten,
    /// For the system user, if there is one.
    pub(crate) token: AccessToken,
    /// As granted.
    pub(crate) scopes: Vec<String>,
}

impl SignedIn {
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|one| one == scope)
    }

    /// What the token says of itself.
    pub(crate) fn claims(&self) -> serde_json::Value {
        exchange::claims(self.token.secret().expose_secret()).unwrap_or_default()
    }
}

/// Checks 1 and 2.
pub(crate) async fn clock_and_metadata(context: &Context<'_>, report: &mut Report<'_>) {
    let named = context.altinn.maskinporten.token_endpoint.as_ref();
    let discovery = Discovery::new(&context.altinn.maskinporten_issuer, named);
    let told = discovery.ask(&context.client, &context.caller).await;
    report.add(clock(told.as_ref().ok()));
    let of_maskinporten = match &told {
        Err(reason) => unreachable("metadata", "Maskinporten", reason),
        Ok(answer) => match discovery.read(answer) {
            Ok(endpoint) => Finding::good("metadata", format!("the token endpoint is {endpoint}")),
            Err(reason) => Finding::bad("metadata", format!("not usable: {reason}"), PLACE_CURE),
        },
    };
    report.add(of_maskinporten.of("Maskinporten"));
    report.add(altinns_metadata(context).await.of("Altinn"));
}

fn clock(answer: Option<&Answer>) -> Finding {
    let Some(skew) = answer.and_then(|answer| answer.skew) else {
        return Finding::skipped("clock", "Maskinporten did not tell the time");
    };
    let word = if skew.ahead { "ahead of" } else { "behind" };
    let seen = format!("{:.1} s {word} Maskinporten's", skew.by.as_secs_f64());
    if skew.is_notable() {
        Finding::bad("clock", seen, CLOCK_CURE)
    } else {
        Finding::good("clock", seen)
    }
}

async fn altinns_metadata(context: &Context<'_>) -> Finding {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
    }
    let path = "/authentication/api/v1/openid/.well-known/openid-configuration";
    let answer = match context.get(path).await {
        Err(reason) => return unreachable("metadata", "Altinn", &reason),
        Ok(answer) if !answer.status.is_success() => return unexpected("metadata", &answer),
        Ok(answer) => answer,
    };
    let expected = format!("{}/authentication/api/v1/openid/", context.platform.base());
    match serde_json::from_slice::<Metadata>(&answer.body) {
        Ok(metadata) if metadata.issuer == expected => {
            Finding::good("metadata", "its issuer is the configured platform's")
        }
        Ok(_) => Finding::bad("metadata", "its issuer is another platform's", PLACE_CURE),
        Err(_) => Finding::bad("metadata", "not the expected JSON", PLACE_CURE),
    }
}

/// Check 3; whether there is a key to go on with.
pub(crate) fn key(context: &Context<'_>, report: &mut Report<'_>) -> bool {
    let settings = &context.altinn.maskinporten;
    let identity = match Identity::read(settings) {
        Ok(identity) => identity,
        Err(error) => {
            let cure = "put the private half of the client's RSA key there, as PEM or JWK, for this \
                        user to read";
            report.add(Finding::bad("key", error.to_string(), cure));
            return false;
        }
    };
    report.add(judged(context, &identity));
    true
}

fn judged(context: &Context<'_>, identity: &Identity) -> Finding {
    let settings = &context.altinn.maskinporten;
    if let Some(fault) = mode_fault(settings.key_file.path()) {
        return Finding::bad("key", fault, "chmod 600: others could sign in with it");
    }
    let size = format!("RSA of {} bits", identity.bits());
    match (&settings.key_name, &identity.certificate) {
        (KeyName::Certificate(_), Some(certificate)) => {
            let left = certificate.not_after.since(context.caller.clock.now());
            let days = left.as_secs() / DAY;
            let seen = format!("{size}; its certificate holds until {}", certificate.not_after);
            if days < CERTIFICATE_DAYS {
                Finding::bad("key", seen, "renew the enterprise certificate")
            } else {
                Finding::good("key", seen)
            }
        }
        (KeyName::Id(_) | KeyName::OfKey | KeyName::Certificate(_), _) => {
            Finding::good("key", format!("{size}, with a key_id"))
        }
    }
}

/// Checks 4 to 6.
pub(crate) async fn tokens(context: &Context<'_>, report: &mut Report<'_>) -> Option<SignedIn> {
    let settings = &context.altinn.maskinporten;
    let issuer = &context.altinn.maskinporten_issuer;
    let made = Maskinporten::new(context.client.clone(), issuer, settings, context.caller.clone());
    let maskinporten = match made {
        Ok(maskinporten) => maskinporten,
        Err(error) => {
            report.add(refused("token", &error));
            return None;
        }
    };
    for scope in &settings.scopes {
        let wanted = Wanted { scopes: std::slice::from_ref(scope), system_user: None };
        let finding = match maskinporten.grant(wanted).await {
            Ok(_) => Finding::good("token", "granted"),
            Err(error) => refused("token", &error),
        };
        report.add(finding.of(scope));
    }
    let granted = maskinporten.grant(maskinporten.usual()).await;
    report.add(system_user(context, granted.as_ref()));
    let Ok(Grant { token: original, scope }) = granted else {
        report.add(Finding::skipped("exchange", "there is no token to exchange"));
        return None;
    };
    let exchange = Exchange::new(maskinporten, std::sync::Arc::clone(&context.platform));
    match exchange.exchange(&original).await {
        Err(error) => {
            report.add(refused("exchange", &error));
            None
        }
        Ok(token) => {
            let minutes = token.expires().since(context.caller.clock.now()).as_secs() / 60;
            let seen = format!("an Altinn token for {minutes} min");
            report.add(Finding::good("exchange", seen));
            let scope = scope.unwrap_or_else(|| settings.scopes.join(" "));
            let scopes = scope.split_whitespace().map(str::to_owned).collect();
            Some(SignedIn { maskinporten: exchange.into_inner(), token, scopes })
        }
    }
}

fn system_user(context: &Context<'_>, granted: Result<&Grant, &TokenError>) -> Finding {
    let configured = context.altinn.maskinporten.system_user.is_some();
    match granted {
        _ if !configured => {
            Finding::skipped("system user", "none is configured: the client acts for itself")
        }
        Ok(_) => Finding::good("system user", "Maskinporten knows it"),
        Err(error) => refused("system user", error),
    }
}
