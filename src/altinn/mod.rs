//! The client side of Altinn: sign-in, and the subscriptions that make Altinn push to us.
//!
//! Owns what goes out to Maskinporten and Altinn. What comes in from Altinn is `source::altinn`'s.
//!
//! A call's way: `EventsApi` asks its `TokenCache` token, which asks the `Exchange`, which asks
//! `Maskinporten`; the `Reconciler` drives it and publishes a `Status`.

pub mod auth;
mod budget;
pub mod events_api;
pub mod feed;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod http;
pub mod subscriptions;

use std::{sync::Arc, time::Duration};

use reqwest::Client;

use self::{
    auth::{cache::TokenCache, exchange::Exchange, maskinporten::Maskinporten, token::TokenError},
    events_api::EventsApi,
    http::client::{Caller, Platform},
};
use crate::{
    clock::Clock,
    config,
    http_client::{self, ClientError},
    metrics::Metrics,
};

/// For one call, its answer included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the daemon's Altinn tokens come from.
pub type AltinnTokens = Exchange<Maskinporten>;

/// Why there is no client for Altinn.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key.
    #[error(transparent)]
    Key(#[from] TokenError),
}

/// Makes the client as configured. Reads and tries the keys, and asks nobody.
pub fn connect(
    config: &config::Altinn,
    clock: Clock,
    metrics: Metrics,
) -> Result<EventsApi<AltinnTokens>, ConnectError> {
    let client = http_client::build(CALL_TIMEOUT, config.ca_file.as_deref())?;
    Ok(connect_with(client, config, Caller { clock, metrics })?)
}

fn connect_with(
    client: Client,
    config: &config::Altinn,
    caller: Caller,
) -> Result<EventsApi<AltinnTokens>, TokenError> {
    let issuer = &config.maskinporten_issuer;
    let grant = Maskinporten::new(client.clone(), issuer, &config.maskinporten, caller.clone())?;
    let key_file = config.api_key_file.clone();
    let clock = caller.clock.clone();
    let platform = Arc::new(Platform::new(client, &config.platform_url, key_file, caller)?);
    let tokens = TokenCache::new(Exchange::new(grant, Arc::clone(&platform)), clock);
    Ok(EventsApi::new(Arc::new(tokens), platform))
}

impl EventsApi<AltinnTokens> {
    /// Reads the signing key and its certificate again. What was in use stays until what is returned is called, and
    /// the token at hand until its time.
    pub fn signing_key_anew(&self) -> Result<impl FnOnce() + '_, TokenError> {
        self.tokens().forgive();
        self.tokens().inner().inner().read_anew()
    }

    /// The same with the gateway's key.
    pub fn gateway_key_anew(&self) -> Result<impl FnOnce() + '_, TokenError> {
        self.tokens().forgive();
        Ok(self.platform().read_anew()?)
    }
}

#[cfg(test)]
mod testing;
