//! `brevdue handlers`.

use std::io::Write;

use reqwest::Method;

use super::status;
use crate::{
    admin::schema,
    cli::{
        admin_client::{AdminClient, ApiPath},
        output::{out, print_json},
        runtime::block_on,
    },
    config::Config,
    name::HandlerName,
};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// Every handler that has a place in the log, and how far it is.
    List {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Deliver nothing to it until it is resumed, restarts included. Its events stay in the log.
    Pause {
        /// Which.
        name: HandlerName,
    },
    /// Go on with one that is paused.
    Resume {
        /// Which.
        name: HandlerName,
    },
    /// Forget one that left the configuration: its place, its retries and its dead letters, for ever.
    Forget {
        /// Which.
        name: HandlerName,
    },
}

pub(in crate::cli) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let client = AdminClient::new(&config.admin.socket)?;
    block_on(async {
        match command {
            Command::List { json } => {
                let handlers: Vec<schema::Handler> = client.get("/v1/handlers", &[]).await?;
                if *json {
                    return print_json(&handlers);
                }
                Ok(status::handlers(&handlers).write(&mut out())?)
            }
            Command::Pause { name } => tell(&client, name, "/pause", "paused").await,
            Command::Resume { name } => tell(&client, name, "/resume", "resumed").await,
            Command::Forget { name } => tell(&client, name, "", "forgotten").await,
        }
    })
}

async fn tell(
    client: &AdminClient,
    name: &HandlerName,
    action: &'static str,
    done: &str,
) -> anyhow::Result<()> {
    let method = if action.is_empty() { Method::DELETE } else { Method::POST };
    client.tell(method, ApiPath::from("/v1/handlers").and(name.as_str())?.then(action)).await?;
    Ok(writeln!(out(), "{name} {done}")?)
}
