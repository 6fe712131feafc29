//! `brevdue status`.

use std::{io::Write, time::Duration};

use crate::{
    admin::schema,
    cli::{
        admin_client::AdminClient,
        output::{Table, is_read, or_dash, out, print_json, tell},
        runtime::block_on,
    },
    config::Config,
    error_chain::in_one_line,
    log_lines::printable::printable,
};

/// Between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);
/// An empty screen, with the cursor at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Again every two seconds, until interrupted.
    #[arg(long)]
    watch: bool,
    /// Only say by the exit code whether it is ready, as a health check wants it.
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    ready: bool,
}

pub(in crate::cli) fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let client = AdminClient::new(&config.admin.socket)?;
    block_on(async {
        let status = ask(&client).await?;
        if arguments.ready {
            anyhow::ensure!(status.ready, "not ready: {}", or_dash(status.not_ready));
            return Ok(());
        }
        show(arguments, &status)?;
        // Without a reader there is nobody who watches.
        while arguments.watch && is_read() {
            tokio::time::sleep(INTERVAL).await;
            match ask(&client).await {
                Ok(status) => show(arguments, &status)?,
                // It is being started anew, perhaps; whoever watches wants to see that, too.
                Err(error) => absent(arguments, &error)?,
            }
        }
        Ok(())
    })
}

async fn ask(client: &AdminClient) -> anyhow::Result<schema::Status> {
    client.get("/v1/status", &[]).await
}

fn show(arguments: &Arguments, status: &schema::Status) -> anyhow::Result<()> {
    if arguments.json { print_json(status) } else { write(status, arguments.watch) }
}

fn absent(arguments: &Arguments, error: &anyhow::Error) -> anyhow::Result<()> {
    let why = printable(&in_one_line(error.as_ref()));
    if arguments.json {
        tell(&why);
        return Ok(());
    }
    Ok(writeln!(out(), "{CLEAR}{why}")?)
}

fn write(status: &schema::Status, clear: bool) -> anyhow::Result<()> {
    let mut out = out();
    if clear {
        write!(out, "{CLEAR}")?;
    }
    let ready = match &status.not_ready {
        None => "ready".to_owned(),
        Some(why) => format!("not ready: {}", printable(why)),
    };
    writeln!(out, "brevdue {}: {}, {ready}", status.version, status.state)?;
    for reason in status.reasons.iter().filter(|reason| Some(*reason) != status.not_ready.as_ref())
    {
        writeln!(out, "degraded: {}", printable(reason))?;
    }
    if status.clock_jumped {
        writeln!(out, "the clock jumped: for a day nothing is given up or deleted for its age")?;
    }
    let log = &status.log;
    writeln!(
        out,
        "log: {} events, {} live bytes, {} identities remembered, {} undecodable pushes",
        log.events, log.live_bytes, log.dedup_ids, log.raw_dead_letters
    )?;
    if let Some(last) = &log.unmatched.last_type {
        let count = log.unmatched.count;
        writeln!(out, "unmatched: {count} events, the last of type {}", printable(last))?;
    }
    if !status.subscriptions.is_empty() {
        writeln!(out)?;
        subscriptions(&status.subscriptions).write(&mut out)?;
    }
    writeln!(out)?;
    Ok(handlers(&status.handlers).write(&mut out)?)
}

fn subscriptions(rows: &[schema::Subscription]) -> Table<8> {
    let head =
        ["SUBSCRIPTION", "ID", "STATE", "SINCE", "LAST PUSH", "FEED READ", "PUSH/FEED", "TROUBLE"];
    let mut table = Table::new(head);
    for row in rows {
        table.row([
            row.name.clone(),
            or_dash(row.id.as_ref()),
            row.state.clone(),
            or_dash(row.since),
            or_dash(row.last_push),
            or_dash(row.last_feed_read),
            format!("{}/{}", row.events_by_push, row.events_by_feed),
            or_dash((!row.troubles.is_empty()).then(|| row.troubles.join("; "))),
        ]);
    }
    table
}

pub(in crate::cli) fn handlers(rows: &[schema::Handler]) -> Table<6> {
    let head = ["HANDLER", "PENDING", "IN FLIGHT", "RETRYING", "DEAD LETTERS", "OLDEST"];
    let mut table = Table::new(head);
    for row in rows {
        let remark = match (row.configured, row.paused) {
            (false, _) => " (not configured)",
            (true, true) => " (paused)",
            (true, false) => "",
        };
        table.row([
            format!("{}{remark}", row.name),
            row.pending.to_string(),
            row.in_flight.to_string(),
            row.retrying.to_string(),
            row.dead_letters.to_string(),
            or_dash(row.oldest),
        ]);
    }
    table
}
