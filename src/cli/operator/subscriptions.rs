//! `brevdue subscriptions`: asks Altinn itself, with or without a running daemon.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, bail};
use reqwest::Method;

use crate::{
    altinn::subscriptions::{
        commands::{self, Applied, Listed, Planned, PlannedChange},
        plan::{Fate, Stale},
    },
    app::{altinn, rotate},
    cli::{
        admin_client::{AdminClient, ApiPath},
        output::{Table, or_dash, out, print_json},
        runtime::block_on,
    },
    config::Config,
    log_lines::printable::printable,
    name::HookName,
};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
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
    /// Create what is missing, ask again for validations that did not come, and remove what has
    /// been replaced for long enough. A running daemon does this by itself; its hooks must be
    /// answered for a validation to succeed. It also removes subscriptions under our public URL
    /// whose names are not configured, which the daemon does only with those it has made itself.
    Apply {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Make a new secret for a subscription's hook. Both are accepted, Altinn is told the new one,
    /// and some time after its validation the old subscription is removed.
    Rotate {
        /// The subscription.
        name: HookName,
    },
}

pub(in crate::cli) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    if let Command::Rotate { name } = command {
        return rotate(config, name);
    }
    let events = altinn::ask_once(config)?;
    block_on(async {
        match command {
            Command::List { json } => {
                let rows = commands::list(&events, &config.server.public_url).await?;
                if *json { print_json(&rows) } else { list(&rows) }
            }
            Command::Plan { json } => {
                let plan = commands::plan(&events, &altinn::look(config)?).await?;
                if *json { print_json(&plan) } else { show_plan(&plan) }
            }
            Command::Apply { json } => {
                let applied = commands::apply(&events, &altinn::side(config)?).await?;
                let good = applied.is_good();
                let shown = if *json { print_json(&applied) } else { show_applied(&applied) };
                shown.and_then(
                    |()| if good { Ok(()) } else { bail!("not everything could be done") },
                )
            }
            Command::Rotate { name } => rotate(config, name),
        }
    })
}

/// By the daemon, so that it accepts the new secret before anyone is told it; by ourselves if none
/// runs.
fn rotate(config: &Config, name: &HookName) -> anyhow::Result<()> {
    let subscription = config.subscriptions.get(name);
    let subscription =
        subscription.with_context(|| format!("subscriptions.{name} is not configured"))?;
    let socket = &config.admin.socket;
    let overlap =
        config.altinn.as_ref().map(|altinn| jiff::SignedDuration::try_from(altinn.overlap));
    let overlap = overlap.transpose()?.unwrap_or_default();
    let then = if subscription.secret_file.is_some() || !runs(socket)? {
        rotate::write_new_secret(config, name)?;
        let socket = printable(&socket.display().to_string());
        format!("No daemon answers on {socket}: at its next start it")
    } else {
        let path = ApiPath::from("/v1/subscriptions").and(name.as_str())?.then("/rotate");
        block_on(async { AdminClient::new(socket)?.tell(Method::POST, path).await })?;
        "The daemon".to_owned()
    };
    writeln!(
        out(),
        "{name} has a new secret; the old one is still accepted.\n\
         {then} subscribes with it. {overlap:#} after Altinn has validated that, it removes the old\n\
         subscription, and 48 hours later it forgets the old secret. To watch: brevdue subscriptions plan"
    )?;
    Ok(())
}

/// Whether a daemon listens. Not to be allowed to ask is an error: it may well run.
fn runs(socket: &Path) -> anyhow::Result<bool> {
    match UnixStream::connect(socket) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot use {}", socket.display())),
    }
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
    Ok(table.write(&mut out())?)
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
        table.row(not_wanted(stale, String::from("-")));
    }
    Ok(table.write(&mut out())?)
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
        let outcome = match &stale.error {
            Some(words) => words.to_string(),
            None if stale.removed => "removed".to_owned(),
            None => "stays".to_owned(),
        };
        table.row(not_wanted(&stale.planned, outcome));
    }
    Ok(table.write(&mut out())?)
}

/// Ours, but not wanted.
fn not_wanted(stale: &Stale, outcome: String) -> [String; 6] {
    let action = match stale.fate {
        Fate::Remove => "remove".to_owned(),
        Fate::Keep { until: Some(until) } => format!("remove after {until}"),
        Fate::Keep { until: None } => "remove when replaced".to_owned(),
        Fate::Report => "none".to_owned(),
    };
    let id = stale.id.0.to_string();
    [stale.name.clone(), id, action, stale.reason.in_words().to_owned(), "-".to_owned(), outcome]
}
