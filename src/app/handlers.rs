//! Handlers from their configuration. To add a kind: one arm here.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;

use crate::{
    clock::Clock,
    config::{self, Config, HandlerKind},
    handler::{Handler, exec::ExecHandler, file::FileHandler, http::HttpHandler},
    name::HandlerName,
};

/// By their names.
pub(super) type Handlers = BTreeMap<HandlerName, Arc<dyn Handler>>;

/// All of them.
pub(super) fn build(config: &Config, clock: &Clock) -> anyhow::Result<Handlers> {
    let built = config.handlers.iter().map(|(name, settings)| {
        let handler = one(settings, clock).with_context(|| format!("handlers.{name}"))?;
        Ok((name.clone(), handler))
    });
    built.collect()
}

fn one(settings: &config::Handler, clock: &Clock) -> anyhow::Result<Arc<dyn Handler>> {
    Ok(match &settings.kind {
        HandlerKind::Http(http) => {
            Arc::new(HttpHandler::new(http, settings.timeout, clock.clone())?)
        }
        HandlerKind::Exec(exec) => Arc::new(ExecHandler::new(exec)),
        HandlerKind::File(file) => Arc::new(FileHandler::new(file)),
    })
}
