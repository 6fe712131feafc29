//! Where Maskinporten's token endpoint is: its own metadata says so (RFC 8414).
//!
//! Owns the checks on that metadata, and what is used while it cannot be had: the endpoint that has
//! been where it is for years. A grant is a proof of who we are, so it goes to the issuer's own host,
//! whatever the metadata says, unless the configuration names another endpoint.

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::{
    altinn::http::client::{Answer, Caller, SMALL},
    clock::Timestamp,
    config::encrypted_or_local,
};

/// How long metadata is believed.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// After metadata that could not be had or believed.
const PAUSE: Duration = Duration::from_secs(600);

/// What is read of the metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Url,
}

/// A memory for one endpoint.
#[derive(Debug)]
pub(crate) struct Discovery {
    issuer: String,
    /// The operator's word goes before the metadata's.
    named: Option<Url>,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    endpoint: String,
    until: Timestamp,
}

impl Discovery {
    /// For this issuer; `named` is the endpoint that the configuration names.
    pub(crate) fn new(issuer: &str, named: Option<&Url>) -> Self {
        Self { issuer: issuer.to_owned(), named: named.cloned(), held: Mutex::new(None) }
    }

    /// Where to send grants.
    pub(crate) async fn token_endpoint(&self, client: &Client, caller: &Caller) -> String {
        if let Some(named) = &self.named {
            return named.to_string();
        }
        let mut held = self.held.lock().await;
        let now = caller.clock.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.until) {
            return held.endpoint.clone();
        }
        let told = self.ask(client, caller).await;
        let fresh = match told.and_then(|answer| self.read(&answer)) {
            Ok(endpoint) => Held { endpoint: endpoint.to_string(), until: now.after(FRESH) },
            Err(reason) => {
                let last = held.take().map(|held| held.endpoint);
                let endpoint = last.unwrap_or_else(|| format!("{}token", self.issuer));
                tracing::warn!(reason, endpoint, "no metadata of Maskinporten's; going on without");
                Held { endpoint, until: now.after(PAUSE) }
            }
        };
        held.insert(fresh).endpoint.clone()
    }

    /// Asks for the metadata; `Err` says why there is no answer.
    pub(crate) async fn ask(&self, client: &Client, caller: &Caller) -> Result<Answer, String> {
        let request = client.get(format!("{}.well-known/oauth-authorization-server", self.issuer));
        caller.send("metadata", request, SMALL).await
    }

    /// The token endpoint; `Err` says why the metadata cannot be believed.
    pub(crate) fn read(&self, answer: &Answer) -> Result<Url, String> {
        if !answer.status.is_success() {
            return Err(format!("it answers {}", answer.status.as_u16()));
        }
        let metadata: Metadata = serde_json::from_slice(&answer.body)
            .map_err(|_| "it is not the JSON of RFC 8414".to_owned())?;
        // Section 3.3: else one issuer could speak for another.
        if metadata.issuer != self.issuer {
            return Err("it names another issuer than the configured one".to_owned());
        }
        let endpoint = encrypted_or_local(metadata.token_endpoint)
            .map_err(|rule| format!("token_endpoint {rule}"))?;
        // Scheme, host and port: another port can be another's, too.
        let own = Url::parse(&self.issuer).is_ok_and(|own| own.origin() == endpoint.origin());
        match &self.named {
            Some(named) => Ok(named.clone()),
            None if own => Ok(endpoint),
            None => Err(
                "its token_endpoint is on another host than the issuer, where a grant goes only \
                         if altinn.maskinporten.token_endpoint names it"
                    .to_owned(),
            ),
        }
    }
}
