//! Where log lines go: journald under systemd, else text or JSON on standard error.

use std::{env, io};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no filter.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// journald does not answer.
    #[error("cannot reach journald: {0}")]
    Journald(#[from] io::Error),
    /// A second start in one process.
    #[error("logging was started before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the process; once.
pub fn start(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&log.level)?;
    let text = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Json => text().json().flatten_event(true).boxed(),
        LogFormat::Auto if env::var_os("JOURNAL_STREAM").is_some() => {
            tracing_journald::layer()?.boxed()
        }
        LogFormat::Auto | LogFormat::Text => text().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    Ok(())
}
