//! `brevdue check`.

use std::{io::Write, path::Path};

use crate::{
    app::files,
    cli::output::{out, tell},
    clock::Clock,
    log_lines::printable::printable,
};

/// Says every fault at once, in the words of `run`, and what is odd or cannot be looked at.
pub(in crate::cli) fn run(path: &Path) -> anyhow::Result<()> {
    let (config, findings) = files::configuration(path, false, &Clock::System);
    // A warning beside a fault may come of it.
    for warning in findings.warnings.iter().filter(|_| config.is_ok()) {
        tell(&format!("warning: {warning}"));
    }
    for unseen in &findings.unseen {
        tell(&format!("not looked at: {unseen}"));
    }
    let config = config?;
    writeln!(
        out(),
        "{} is good: {} subscriptions, {} sources, {} handlers",
        printable(&path.display().to_string()),
        config.subscriptions.len(),
        config.sources.len(),
        config.handlers.len()
    )?;
    Ok(())
}
