//! `brevdue subscriptions`: asks Altinn itself, with or without a running daemon.

use std::io;

use anyhow::bail;

use super::{
    block_on, print_json,
    table::{Table, or_dash},
};
use crate::{
    altinn::once::{self, Applied, Listed, Planned, PlannedChange},
    app::altinn::ask_once,
    config::Config,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// What Altinn has for this client; subscriptions of others cannot be seen.
    List {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// What `apply` would do, and why; changes nothing.
    Plan {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Create what is missing, and ask again for validations that did not come. A running daemon
    /// does this by itself; its hooks must be answered for a validation to succeed.
    Apply {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let (events, desired) = ask_once(config)?;
    let public_url = &config.server.public_url;
    block_on(async {
        match command {
            Command::List { json } => {
                let rows = once::list(&events, public_url).await?;
                if *json { print_json(&rows) } else { list(&rows) }
            }
            Command::Plan { json } => {
                let plan = once::plan(&events, &desired, public_url).await?;
                if *json { print_json(&plan) } else { show_plan(&plan) }
            }
            Command::Apply { json } => {
                let applied = once::apply(&events, &desired, public_url).await?;
                let good = applied.is_good();
                let shown = if *json { print_json(&applied) } else { show_applied(&applied) };
                shown.and_then(
                    |()| if good { Ok(()) } else { bail!("not everything could be done") },
                )
            }
        }
    })
}

fn list(rows: &[Listed]) -> anyhow::Result<()> {
    let mut table =
        Table::new(["ID", "NAME", "VALIDATED", "RESOURCE", "SUBJECT", "TYPE", "ENDPOINT"]);
    for row in rows {
        let whose = if row.ours { or_dash(row.name.as_ref()) } else { "(not ours)".to_owned() };
        table.row([
            row.id.0.to_string(),
            whose,
            yes(row.validated),
            or_dash(row.resource.as_ref()),
            or_dash(row.subject.as_ref()),
            or_dash(row.ty.as_ref()),
            or_dash(row.endpoint.as_ref()),
        ]);
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn row(change: &PlannedChange, outcome: String) -> [String; 6] {
    [
        change.name.to_string(),
        or_dash(change.id.map(|id| id.0)),
        change.action.to_owned(),
        change.reason.to_owned(),
        change.resource.clone(),
        outcome,
    ]
}

fn show_plan(plan: &Planned) -> anyhow::Result<()> {
    let mut table = Table::new(["NAME", "ID", "ACTION", "REASON", "RESOURCE", "SUBJECT"]);
    for change in &plan.subscriptions {
        table.row(row(change, or_dash(change.subject.as_ref())));
    }
    for stale in &plan.stale {
        table.row(left_alone(&stale.name, stale.id.0));
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

fn show_applied(applied: &Applied) -> anyhow::Result<()> {
    let mut table = Table::new(["NAME", "ID", "ACTION", "REASON", "RESOURCE", "OUTCOME"]);
    for change in &applied.subscriptions {
        let outcome = match &change.error {
            Some(words) => words.to_string(),
            None if change.validated => "validated".to_owned(),
            None => "awaiting validation".to_owned(),
        };
        table.row(row(&change.planned, outcome));
    }
    for stale in &applied.stale {
        table.row(left_alone(&stale.name, stale.id.0));
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

/// Ours, but not wanted.
fn left_alone(name: &str, id: i64) -> [String; 6] {
    let dash = || "-".to_owned();
    [
        name.to_owned(),
        id.to_string(),
        "none".to_owned(),
        "no longer wanted".to_owned(),
        dash(),
        dash(),
    ]
}
