//! What the demo tells on the terminal.

use std::{io::Write, net::SocketAddr, path::Path, time::Duration};

use serde_json::Value;

use super::handler::Printing;
use crate::{
    admin::schema,
    cli::{
        admin_client::AdminClient,
        output::{out, tell},
    },
    log_lines::printable::printable,
    simulator::workspace,
};

/// One line: a word for the stage, and what happened.
fn say(stage: &str, what: &str) -> anyhow::Result<()> {
    Ok(writeln!(out(), "{stage:<12}{}", printable(what))?)
}

pub(super) fn stage(altinn: &str, handler: &str, folder: &Path) -> anyhow::Result<()> {
    say("stage", &format!("Altinn stand-in {altinn}, printing handler {handler}"))?;
    let folder = folder.display();
    say("", &format!("a throw-away CA, certificates, a client key and brevdue.toml in {folder}"))
}

pub(super) fn ready(listen: SocketAddr, took: Duration) -> anyhow::Result<()> {
    say("start", &format!("brevdue is ready after {took:.0?}: hooks answered on https://{listen}"))
}

pub(super) fn signed_in(requests: &Value) -> anyhow::Result<()> {
    let (tokens, exchanges) = (&requests["tokens_issued"], &requests["altinn_tokens_issued"]);
    say(
        "sign-in",
        &format!("{tokens} token by Maskinporten grant, exchanged for {exchanges} Altinn token"),
    )
}

pub(super) fn subscribed(row: &schema::Subscription, took: Duration) -> anyhow::Result<()> {
    let (name, id) = (&row.name, row.id.as_deref().unwrap_or("-"));
    let (resource, subject) = (workspace::RESOURCE, workspace::ORG);
    say("subscribe", &format!("{name} is subscription {id}: {resource}, subject {subject}"))?;
    say("", &format!("its validation event was answered; validated {took:.0?} after the start"))
}

pub(super) fn published(count: usize) -> anyhow::Result<()> {
    say(
        "publish",
        &format!("Correspondence publishes {count} events; Altinn pushes each to the hook"),
    )
}

pub(super) async fn first_event(
    id: &str,
    handler: &Printing,
    admin: &AdminClient,
) -> anyhow::Result<()> {
    say("one event", &format!("id {id}"))?;
    let events: Vec<schema::Event> = admin.get("/v1/events", &[("limit", "1000".into())]).await?;
    // With `retain = "0s"` a delivered event soon leaves the log.
    if let Some(event) = events.iter().find(|event| event.id == id) {
        let (received, seq) = (event.received, &event.seq);
        say("", &format!("received, synced to disk as {seq} at {received}, then answered 200"))?;
    } else {
        say("", "received, synced to disk, answered 200; it has left the log by now")?;
    }
    if let Some(got) = handler.got().get(id) {
        let (attempt, key) = (&got.attempt, &got.key);
        say("", &format!("delivered by attempt {attempt} with Idempotency-Key {key}"))?;
    }
    Ok(())
}

pub(super) fn totals(
    ids: &[String],
    handler: &Printing,
    status: &schema::Status,
    took: Duration,
) -> anyhow::Result<()> {
    let last = handler.got().len();
    say("deliver", &format!("{last} of {} events at the handler after {took:.0?}", ids.len()))?;
    let (state, left) = (&status.state, status.log.events);
    let dead: u64 = status.handlers.iter().map(|handler| handler.dead_letters).sum();
    say("status", &format!("{state}; {left} events in the log, {dead} dead letters"))
}

pub(super) fn keep_running(config: &Path, altinn: &str, folder: &Path) -> anyhow::Result<()> {
    let (config, ca) = (config.display(), folder.join("ca.pem"));
    say("", &format!("running until Ctrl-C; try: brevdue --config {config} status"))?;
    let (ca, resource, org) = (ca.display(), workspace::RESOURCE, workspace::ORG);
    let order = format!("{{\"resource\":\"{resource}\",\"subject\":\"{org}\"}}");
    say("", &format!("one more: curl --cacert {ca} {altinn}/simulator/events -d '{order}'"))
}

pub(super) fn end(once: usize, of: usize, took: Duration) -> anyhow::Result<()> {
    say("stop", "SIGTERM: drained, last commit, exit 0")?;
    say("result", &format!("{once} of {of} events arrived, each exactly once, in {took:.1?}"))
}

pub(super) fn daemon_log(log: &str) {
    tell(&format!("--- the daemon's log ---\n{log}"));
}
