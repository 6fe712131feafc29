//! What the checks share: the configuration, a client for Altinn, and what a daemon says.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::Client;

use crate::{
    altinn::{
        CALL_TIMEOUT,
        auth::token::AccessToken,
        http::client::{Answer, Caller, LARGE, Platform},
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
pub(super) struct Context<'c> {
    pub(super) config: &'c Config,
    pub(super) altinn: &'c config::Altinn,
    pub(super) daemon: Option<&'c Daemon>,
    pub(super) client: Client,
    pub(super) caller: Caller,
    pub(super) platform: Arc<Platform>,
}

impl<'c> Context<'c> {
    /// Reads the gateway's key, and asks nobody.
    pub(super) fn new(
        config: &'c Config,
        altinn: &'c config::Altinn,
        daemon: Option<&'c Daemon>,
        clock: &Clock,
    ) -> Result<Self, String> {
        let client = http_client::build(CALL_TIMEOUT, altinn.ca_file.as_deref());
        let client = client.map_err(|fault| fault.to_string())?;
        let caller = Caller { clock: clock.clone(), metrics: Metrics::default() };
        let key_file = altinn.api_key_file.clone();
        let platform =
            Platform::new(client.clone(), &altinn.platform_url, key_file, caller.clone());
        let platform = Arc::new(platform.map_err(|fault| fault.to_string())?);
        Ok(Self { config, altinn, daemon, client, caller, platform })
    }

    /// GET without a token.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        let request = self.platform.open(reqwest::Method::GET, path);
        self.caller.send("doctor", request, LARGE).await
    }

    /// GET with the token.
    pub(super) async fn get_as(
        &self,
        token: &AccessToken,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let request = self.platform.request(reqwest::Method::GET, path, token.secret());
        self.caller.send("doctor", request.query(query), LARGE).await
    }

    /// The resources that are subscribed to, each once.
    pub(super) fn resources(&self) -> Vec<&str> {
        let mut all: Vec<_> =
            self.config.subscriptions.values().map(|one| one.resource.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&HookName, &config::Subscription)> {
        self.config.subscriptions.iter()
    }

    pub(super) fn asks_for(&self, scope: &str) -> bool {
        self.altinn.maskinporten.scopes.iter().any(|one| one == scope)
    }
}
