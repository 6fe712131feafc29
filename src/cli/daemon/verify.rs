//! `brevdue verify`.

use std::io::{self, Write};

use crate::{
    cli::output::{out, print_json},
    clock::Clock,
    config::Config,
    log_lines::printable::printable,
    name::HandlerName,
    queue::sled::verify::{Report, repair, verify},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Make a good store of what is whole, and keep the damaged one aside.
    #[arg(long)]
    repair: bool,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Ends well if the store is whole, or was repaired.
pub(in crate::cli) fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let directory = config.data_dir.join("queue");
    let handlers: Vec<HandlerName> = config.handlers.keys().cloned().collect();
    let report = if arguments.repair {
        repair(&directory, &handlers, Clock::System.now())?
    } else {
        verify(&directory, &handlers)?
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        tell(&report, &mut out())?;
    }
    let good = report.whole || report.kept_aside.is_some();
    anyhow::ensure!(good, "the store is not whole; `brevdue verify --repair` goes on with what is");
    Ok(())
}

fn tell(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let holds = &report.holds;
    writeln!(out, "Whole:")?;
    writeln!(out, "  {} events, numbered from {}", holds.events, holds.oldest)?;
    if holds.large_events > 0 {
        writeln!(out, "    {} of them in parts", holds.large_events)?;
    }
    if holds.lost_before > 0 {
        writeln!(out, "    {} more are known to be lost", holds.lost_before)?;
    }
    writeln!(out, "  {} identities remembered", holds.dedup_ids)?;
    for place in &holds.handlers {
        writeln!(out, "  handler {}: {} events to deliver", place.name, place.pending)?;
    }
    writeln!(out, "  {} waiting retries", holds.retries)?;
    writeln!(out, "  {} dead letters", holds.dead_letters)?;
    writeln!(out, "  {} undecodable pushes", holds.undecodable)?;
    if report.whole {
        return writeln!(out, "Nothing is wrong.");
    }
    writeln!(out, "Wrong:")?;
    for fault in &report.faults {
        writeln!(out, "  {}", printable(fault))?;
    }
    if report.more_faults > 0 {
        writeln!(out, "  and {} more", report.more_faults)?;
    }
    let done = report.kept_aside.is_some();
    writeln!(out, "{}", if done { "Repaired:" } else { "A repair would:" })?;
    for step in &report.repair {
        writeln!(out, "  {}", printable(step))?;
    }
    if let Some(aside) = &report.kept_aside {
        let aside = printable(&aside.display().to_string());
        writeln!(out, "The damaged database is kept in {aside}.")?;
    }
    Ok(())
}
