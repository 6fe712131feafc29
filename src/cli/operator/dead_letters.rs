//! `brevdue dead-letters`.

use std::io::{self, Write};

use anyhow::bail;
use reqwest::Method;

use super::events;
use crate::{
    admin::schema,
    cli::{
        admin_client::AdminClient,
        output::{Table, or_dash, print_json, printable},
        runtime::block_on,
    },
    config::Config,
    error_chain::in_one_line,
};

/// So many are asked for at a time when all are meant.
const BATCH: usize = 1000;

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// What was given up, oldest first.
    List {
        /// Of this handler only.
        #[arg(long)]
        handler: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// One of them, with its event or body.
    Show {
        /// Its id, as `list` shows it.
        id: String,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Deliver again: attempts count on, the time to give up begins anew.
    Retry(Which),
    /// Forget for ever.
    Discard(Which),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Which {
    /// Their ids, as `list` shows them.
    ids: Vec<String>,
    /// All of this handler.
    #[arg(long)]
    handler: Option<String>,
}

pub(in crate::cli) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let client = AdminClient::new(&config.admin.socket)?;
    block_on(async {
        match command {
            Command::List { handler, limit, json } => {
                let letters = fetch(&client, handler.as_deref(), (*limit).into()).await?;
                if *json { print_json(&letters) } else { list(&letters) }
            }
            Command::Show { id, json } => {
                let path = format!("/v1/dead-letters/{id}");
                let letter: schema::DeadLetter = client.get(&path, &[]).await?;
                if *json { print_json(&letter) } else { show(&letter) }
            }
            Command::Retry(which) => each(&client, which, Method::POST, "/retry", "retried").await,
            Command::Discard(which) => each(&client, which, Method::DELETE, "", "discarded").await,
        }
    })
}

async fn fetch(
    client: &AdminClient,
    handler: Option<&str>,
    limit: usize,
) -> anyhow::Result<Vec<schema::DeadLetter>> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(handler.map(|name| ("handler", name.to_owned())));
    client.get("/v1/dead-letters", &query).await
}

/// Does the same to each; goes on after one that fails, and fails at the end.
async fn each(
    client: &AdminClient,
    which: &Which,
    method: Method,
    action: &str,
    done: &str,
) -> anyhow::Result<()> {
    let (mut good, mut failed) = (0_usize, 0_usize);
    loop {
        let ids = match &which.handler {
            None => which.ids.clone(),
            Some(name) => {
                let letters = fetch(client, Some(name), BATCH).await?;
                letters.into_iter().map(|letter| letter.id).collect()
            }
        };
        let all = which.handler.is_none() || ids.len() < BATCH;
        for id in ids {
            let path = format!("/v1/dead-letters/{id}{action}");
            match client.tell(method.clone(), &path).await {
                Ok(()) => good += 1,
                Err(error) => {
                    failed += 1;
                    // Nobody may be there to read it; the count at the end says it, too.
                    drop(writeln!(io::stderr(), "{id}: {}", in_one_line(error.as_ref())));
                }
            }
        }
        if all || failed > 0 {
            break;
        }
    }
    writeln!(io::stdout(), "{good} {done}")?;
    if failed > 0 {
        bail!("{failed} not {done}");
    }
    Ok(())
}

fn list(letters: &[schema::DeadLetter]) -> anyhow::Result<()> {
    let mut table = Table::new(["ID", "BURIED", "ATTEMPTS", "TYPE", "REASON"]);
    for letter in letters {
        table.row([
            letter.id.clone(),
            letter.buried.to_string(),
            letter.attempts.to_string(),
            or_dash(letter.event.as_ref().map(|event| &event.ty)),
            letter.reason.clone(),
        ]);
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

fn show(letter: &schema::DeadLetter) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "id:       {}", letter.id)?;
    writeln!(out, "buried:   {}", letter.buried)?;
    writeln!(out, "attempts: {}", letter.attempts)?;
    writeln!(out, "reason:   {}", printable(&letter.reason))?;
    if let Some(answer) = &letter.last_answer {
        writeln!(out, "answer:   {}", printable(answer))?;
    }
    if let Some(raw) = &letter.raw {
        writeln!(out, "hook:     {}", raw.hook)?;
        writeln!(out, "media:    {}", printable(&raw.media_type))?;
        writeln!(out, "{}", printable(raw.body.as_deref().unwrap_or_default()))?;
    }
    drop(out);
    letter.event.as_ref().map_or(Ok(()), events::show)
}
