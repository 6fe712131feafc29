//! Our own public address, as others see it: one request without a secret, and the certificate.

use std::{error::Error, time::Duration};

use http::{StatusCode, header::ALLOW};
use reqwest::{Response, tls::TlsInfo};
use tokio_rustls::rustls;

use super::report::{Finding, Report};
use crate::{
    altinn::http::error_text::ErrorText,
    clock::{Clock, Timestamp},
    config::Config,
    crypto::certificate::Certificate,
    error_chain::causes,
    http_client,
};

const ENDPOINT: &str = "endpoint";
const CERTIFICATE: &str = "certificate";
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const DAY: u64 = 24 * 60 * 60;
/// A certificate that ends sooner should have been renewed, whatever its life.
const LATE: Duration = Duration::from_secs(14 * DAY);

/// GET at a hook, which it must answer with 405: nothing is stored, and no secret is sent.
pub(crate) async fn check(
    config: &Config,
    daemon_runs: bool,
    clock: &Clock,
    report: &mut Report<'_>,
) {
    let Some(name) = config.subscriptions.keys().chain(config.sources.keys()).next() else {
        for check in [ENDPOINT, CERTIFICATE] {
            report.add(Finding::skipped(check, "there is no hook"));
        }
        return;
    };
    let ca_file = config.altinn.as_ref().and_then(|altinn| altinn.ca_file.as_deref());
    let base = config.server.public_url.as_str().trim_end_matches('/');
    let url = format!("{base}/hooks/{name}");
    let client = http_client::with_ca(http_client::builder(CALL_TIMEOUT).tls_info(true), ca_file);
    let client = client.and_then(|builder| Ok(builder.build()?));
    let answer = match client {
        Err(error) => {
            let cure = "see that the file is there and that this user may read it";
            report.add(Finding::bad(ENDPOINT, error.to_string(), cure));
            return;
        }
        Ok(client) => client.get(&url).send().await,
    };
    match answer {
        Ok(answer) => {
            report.add(answered(&answer, &url));
            report.add(certificate(&answer, clock.now()));
        }
        Err(error) => failed(&error.without_url(), &url, daemon_runs, report),
    }
}

fn answered(answer: &Response, url: &str) -> Finding {
    let status = answer.status();
    let allow = answer.headers().get(ALLOW).and_then(|value| value.to_str().ok());
    if status == StatusCode::METHOD_NOT_ALLOWED && allow.is_some_and(|all| all.contains("POST")) {
        return Finding::good(ENDPOINT, format!("{url} answers as a hook does"));
    }
    let seen = format!("{url} answers {} to GET, not 405 as a hook does", status.as_u16());
    let cure = match status.as_u16() {
        404 => "see that public_url leads to this brevdue, with its path unchanged",
        502..=504 => "see that the proxy in front reaches brevdue, and that brevdue runs",
        _ => "see what stands between the internet and brevdue",
    };
    Finding::bad(ENDPOINT, seen, cure)
}

fn failed(error: &reqwest::Error, url: &str, daemon_runs: bool, report: &mut Report<'_>) {
    let told = told(error);
    if is_untrusted(error) {
        report.add(Finding::skipped(ENDPOINT, "its certificate is not trusted"));
        let cure = "serve the whole chain of a certificate that browsers trust, for this very name, \
                    and renew it in time: Altinn takes no other";
        report.add(Finding::bad(CERTIFICATE, told, cure));
        return;
    }
    let finding = if daemon_runs {
        let cure = "see that the name leads here and that firewall and proxy let it through; a net \
                    may also keep machines from their own public address";
        Finding::bad(ENDPOINT, format!("{url} cannot be reached: {told}"), cure)
    } else {
        Finding::skipped(ENDPOINT, format!("no daemon runs, and nothing answers at {url}"))
    };
    report.add(finding);
    report.add(Finding::skipped(CERTIFICATE, "there is no connection to see it on"));
}

/// Expiry; whether it is trusted was decided by the connection.
fn certificate(answer: &Response, now: Timestamp) -> Finding {
    let leaf = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
    match leaf.and_then(Certificate::read) {
        Some(leaf) => expiry(&leaf, now),
        None => Finding::skipped(CERTIFICATE, "the connection does not show it"),
    }
}

fn expiry(leaf: &Certificate, now: Timestamp) -> Finding {
    let (left, life) = (leaf.not_after.since(now), leaf.not_after.since(leaf.not_before));
    let seen = format!("trusted, until {} ({} days)", leaf.not_after, left.as_secs() / DAY);
    if left < LATE.min(life / 6) {
        let cure = "renew it, and see why that did not happen by itself; SIGHUP reads it anew";
        Finding::bad(CERTIFICATE, seen, cure)
    } else {
        Finding::good(CERTIFICATE, seen)
    }
}

fn told(error: &reqwest::Error) -> String {
    let last = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    ErrorText::new(&last).text
}

fn is_untrusted(error: &reqwest::Error) -> bool {
    let of_rustls = |cause: &&(dyn Error + 'static)| {
        let error = cause.downcast_ref::<rustls::Error>();
        matches!(error, Some(rustls::Error::InvalidCertificate(_)))
    };
    causes(error).iter().any(of_rustls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Outcome;

    #[test]
    fn a_certificate_that_should_have_been_renewed_is_bad() {
        let start = Timestamp::from_millis(1_800_000_000_000);
        let days = |days| Duration::from_secs(days * DAY);
        // Its life and its age in days.
        for (life, age, outcome) in [
            (90, 0, Outcome::Good),
            (90, 75, Outcome::Good),
            (90, 77, Outcome::Bad),
            (365, 350, Outcome::Good),
            (365, 352, Outcome::Bad),
            (6, 4, Outcome::Good),
            (6, 6, Outcome::Bad),
            (90, 100, Outcome::Bad),
        ] {
            let leaf = Certificate {
                not_before: start,
                not_after: start.after(days(life)),
                public_key_info: Vec::new(),
            };
            let found = expiry(&leaf, start.after(days(age))).outcome;
            assert_eq!(found, outcome, "{life} {age}");
        }
    }
}
