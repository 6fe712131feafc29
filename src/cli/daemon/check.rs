//! `brevdue check`.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::{app::files, cli::output::printable, clock::Clock};

/// Says every fault at once, in the words of `run`, and what is odd or cannot be looked at.
pub(in crate::cli) fn run(path: &Path) -> anyhow::Result<()> {
    let (config, findings) = files::configuration(path, false, &Clock::System);
    let mut told = io::stderr().lock();
    // A warning beside a fault may come of it.
    for warning in findings.warnings.iter().filter(|_| config.is_ok()) {
        writeln!(told, "warning: {}", printable(&warning.to_string()))?;
    }
    for unseen in &findings.unseen {
        writeln!(told, "not looked at: {}", printable(&unseen.to_string()))?;
    }
    drop(told);
    let config = config?;
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
