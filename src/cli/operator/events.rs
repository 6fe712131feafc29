//! `brevdue events`.

use std::io::Write;

use crate::{
    admin::schema,
    cli::{
        admin_client::{AdminClient, ApiPath},
        output::{Table, out, print_json},
        runtime::block_on,
    },
    config::Config,
    log_lines::printable::printable_json,
    name::HandlerName,
    queue::{InvalidReplayFrom, ReplayFrom},
};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// The newest events in the log, oldest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// The oldest instead of the newest.
        #[arg(long)]
        oldest: bool,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// One event, as it came.
    Show {
        /// Its number in the log.
        seq: u64,
        /// With what brevdue knows of it, as a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Deliver to a handler again what is in the log and matches it, from an event on. What is in
    /// flight or waits for a retry comes no second time; dead letters stay.
    Replay {
        /// Which.
        #[arg(long, value_name = "NAME")]
        handler: HandlerName,
        /// `oldest`, an event's number, or a time (RFC 3339): events stored then or later.
        #[arg(long, value_name = "FROM", value_parser = from)]
        from: String,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// The daemon reads it; here it is only looked at.
fn from(text: &str) -> Result<String, InvalidReplayFrom> {
    text.parse().map(|_: ReplayFrom| text.to_owned())
}

pub(in crate::cli) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let client = AdminClient::new(&config.admin.socket)?;
    block_on(async {
        match command {
            Command::List { limit, oldest, json } => {
                let mut query = vec![("limit", limit.to_string())];
                if !oldest {
                    query.push(("newest", String::new()));
                }
                let events: Vec<schema::Event> = client.get("/v1/events", &query).await?;
                if *json { print_json(&events) } else { list(&events) }
            }
            Command::Show { seq, json } => {
                let event: schema::Event =
                    client.get(ApiPath::from("/v1/events").and(&seq.to_string())?, &[]).await?;
                if *json { print_json(&event) } else { show(&event) }
            }
            Command::Replay { handler, from, json } => {
                let path = ApiPath::from("/v1/handlers").and(handler.as_str())?.then("/replay");
                let replay: schema::Replay = client.post(path, &[("from", from.clone())]).await?;
                if *json {
                    return print_json(&replay);
                }
                let schema::Replay { handler, events } = replay;
                let words = if events == 1 { "event comes" } else { "events come" };
                Ok(writeln!(out(), "{events} {words} to {handler} again")?)
            }
        }
    })
}

fn list(events: &[schema::Event]) -> anyhow::Result<()> {
    let mut table = Table::new(["SEQ", "RECEIVED", "FROM", "TYPE", "ID"]);
    for event in events {
        table.row([
            event.seq.clone(),
            event.received.to_string(),
            event.from.join(","),
            event.ty.clone(),
            event.id.clone(),
        ]);
    }
    Ok(table.write(&mut out())?)
}

pub(in crate::cli) fn show(event: &schema::Event) -> anyhow::Result<()> {
    if let Some(json) = &event.event {
        writeln!(out(), "{}", printable_json(json.get()))?;
    }
    Ok(())
}
