//! `brevdue doctor`: every step between this machine and an event, and what to do where one fails.

use std::{io::Write, process::Command};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    admin::schema,
    cli::{
        admin_client::AdminClient,
        output::{out, print_json, tell},
        runtime::block_on,
    },
    clock::Clock,
    config::Config,
    doctor::{
        self,
        context::Daemon,
        report::{Finding, Outcome, Report},
        service_user::ServiceUser,
    },
    log_lines::printable::printable,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Whole {
    good: bool,
    checks: Vec<Finding>,
}

pub(in crate::cli) fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    if let Some(user) = ServiceUser::of(config) {
        match user.same_command() {
            Ok(command) => return as_service_user(command),
            Err(error) => tell(&format!(
                "brevdue: asks as root, who may read more than {user}: that user cannot run this \
                 program ({error})"
            )),
        }
    }
    let json = arguments.json;
    let mut written = Ok(());
    let mut tell = |finding: &Finding| {
        if !json && written.is_ok() {
            written = writeln!(out(), "{}", printable(&finding.to_string()));
        }
    };
    let mut report = Report::new(&mut tell);
    block_on(async {
        examine(config, &mut report).await;
        Ok(())
    })?;
    let checks = report.findings();
    written?;
    let bad = checks.iter().filter(|finding| finding.outcome == Outcome::Bad).count();
    if json {
        print_json(&Whole { good: bad == 0, checks })?;
    }
    match bad {
        0 => Ok(()),
        1 => bail!("one check is bad"),
        _ => bail!("{bad} checks are bad"),
    }
}

/// Its exit code is ours; why it is bad has been said.
fn as_service_user(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot ask as the service's user")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => bail!("the examination was ended ({status})"),
    }
}

async fn examine(config: &Config, report: &mut Report<'_>) {
    let clock = Clock::System;
    let status = status(config).await;
    let daemon = status.as_ref().map(|status| Daemon {
        errors: status
            .subscriptions
            .iter()
            .filter_map(|one| Some((one.name.clone(), one.last_error.clone()?)))
            .collect(),
    });
    doctor::examine(config, daemon.as_ref(), &clock, report).await;
    doctor::machine::check(config, status.as_ref(), &clock, report);
}

/// What a running daemon says; `None` if none runs, or this user may not ask it.
async fn status(config: &Config) -> Option<schema::Status> {
    let client = AdminClient::new(&config.admin.socket).ok()?;
    client.get("/v1/status", &[]).await.ok()
}
