//! `brevdue check`.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::config::{Config, error::ConfigError, files::check_files};

/// Says every problem at once.
pub(in crate::cli) fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let problems = check_files(&config);
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems).into());
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} is good: {} subscriptions, {} sources, {} handlers",
        path.display(),
        config.subscriptions.len(),
        config.sources.len(),
        config.handlers.len()
    )?;
    Ok(())
}
