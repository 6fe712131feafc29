//! `brevdue dead-letters`.

use std::io::Write;

use anyhow::bail;
use reqwest::Method;

use super::events;
use crate::{
    admin::schema,
    cli::{
        admin_client::{AdminClient, ApiPath},
        output::{Table, or_dash, out, print_json, tell},
        runtime::block_on,
    },
    config::Config,
    error_chain::in_one_line,
    log_lines::printable::printable,
};

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
    /// All that this handler has when the command begins.
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
                let path = ApiPath::from("/v1/dead-letters").and(id)?;
                let letter: schema::DeadLetter = client.get(path, &[]).await?;
                if *json { print_json(&letter) } else { show(&letter) }
            }
            Command::Retry(which) => RETRY.take(&client, which).await,
            Command::Discard(which) => DISCARD.take(&client, which).await,
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

/// What is done to letters, and the words for it.
struct Step {
    method: Method,
    /// After a letter's path.
    one: &'static str,
    /// After a handler's.
    all: &'static str,
    done: &'static str,
}

const RETRY: Step =
    Step { method: Method::POST, one: "/retry", all: "/dead-letters/retry", done: "retried" };
const DISCARD: Step =
    Step { method: Method::DELETE, one: "", all: "/dead-letters/discard", done: "discarded" };

impl Step {
    async fn take(&self, client: &AdminClient, which: &Which) -> anyhow::Result<()> {
        match &which.handler {
            Some(handler) => self.all(client, handler).await,
            None => self.each(client, &which.ids).await,
        }
    }

    /// Goes on after one that fails, and fails at the end.
    async fn each(&self, client: &AdminClient, ids: &[String]) -> anyhow::Result<()> {
        let (mut good, mut failed) = (0_usize, 0_usize);
        for id in ids {
            match self.one(client, id).await {
                Ok(()) => good += 1,
                Err(error) => {
                    failed += 1;
                    let why = in_one_line(error.as_ref());
                    tell(&format!("{}: {}", printable(id), printable(&why)));
                }
            }
        }
        writeln!(out(), "{good} {}", self.done)?;
        if failed > 0 {
            bail!("{failed} not {}", self.done);
        }
        Ok(())
    }

    async fn one(&self, client: &AdminClient, id: &str) -> anyhow::Result<()> {
        let path = ApiPath::from("/v1/dead-letters").and(id)?.then(self.one);
        client.tell(self.method.clone(), path).await
    }

    /// All that there are now: the daemon takes a snapshot, and works it off step by step.
    async fn all(&self, client: &AdminClient, handler: &str) -> anyhow::Result<()> {
        let path = ApiPath::from("/v1/handlers").and(handler)?.then(self.all);
        let mut query = Vec::new();
        let mut good = 0;
        loop {
            let step: schema::Bulk = client.post(path.clone(), &query).await?;
            good += step.done;
            if step.left > 0 {
                let worked_off = step.total - step.left.min(step.total);
                tell(&format!("{worked_off} of {} …", step.total));
            }
            if step.error.is_some() || step.left == 0 {
                writeln!(out(), "{good} {}", self.done)?;
                return match step.error {
                    None => Ok(()),
                    Some(why) => bail!("{} not {}: {why}", step.left, self.done),
                };
            }
            query = vec![("snapshot", step.snapshot)];
        }
    }
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
    Ok(table.write(&mut out())?)
}

fn show(letter: &schema::DeadLetter) -> anyhow::Result<()> {
    let mut out = out();
    writeln!(out, "id:       {}", printable(&letter.id))?;
    writeln!(out, "buried:   {}", letter.buried)?;
    writeln!(out, "attempts: {}", letter.attempts)?;
    writeln!(out, "reason:   {}", printable(&letter.reason))?;
    if let Some(answer) = &letter.last_answer {
        writeln!(out, "answer:   {}", printable(answer))?;
    }
    if let Some(raw) = &letter.raw {
        writeln!(out, "hook:     {}", printable(&raw.hook))?;
        writeln!(out, "media:    {}", printable(&raw.media_type))?;
        writeln!(out, "{}", printable(raw.body.as_deref().unwrap_or_default()))?;
    }
    drop(out);
    letter.event.as_ref().map_or(Ok(()), events::show)
}
