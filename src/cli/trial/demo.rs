//! `brevdue demo`: the whole way of an event in one command, on a fresh machine.
//!
//! The stand-in and the printing handler run here; the daemon is this same program, started as
//! anyone would start it.

mod handler;
mod story;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    admin::schema,
    cli::{admin_client::AdminClient, runtime::block_on},
    http_client,
    simulator::{
        Running, Simulator,
        workspace::{self, Credentials, Daemon},
    },
};

/// Each stage of the demo ends within this, or the demo fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is about to happen.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Events to send.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,
    /// Stay after the events, until Ctrl-C.
    #[arg(long)]
    keep_running: bool,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let result = block_on(demo(arguments, folder.path()));
    if result.is_err() {
        let log = fs::read_to_string(folder.path().join("brevdue.log")).unwrap_or_default();
        story::daemon_log(&log)?;
    }
    result
}

async fn demo(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let handler = handler::Printing::start().await?;
    let credentials = Credentials::new()?;
    let running = Simulator::start(credentials.options()?).await?;
    let listen = free_port()?;
    let handlers = format!("[handlers.skriver]\nkind = \"http\"\nurl = \"{}\"\n", handler.url());
    let daemon = Daemon { listen, handlers: &handlers, settings: "" };
    let config = workspace::write_workspace(folder, &running, &credentials, daemon)?;
    story::stage(&running.base_url, &handler.url(), folder)?;

    let started = Instant::now();
    let mut child = start(&config, folder)?;
    let admin = AdminClient::new(&folder.join("admin.sock"))?;
    ready(&admin, &mut child).await?;
    story::ready(listen, started.elapsed())?;
    let altinn = Altinn::new(&running, folder)?;
    let subscription = validated(&admin, &mut child).await?;
    story::signed_in(&altinn.get("/simulator/requests").await?)?;
    story::subscribed(&subscription, started.elapsed())?;

    let published = Instant::now();
    let ids = altinn.publish(arguments.events).await?;
    story::published(ids.len())?;
    handler.wait_for(ids.len(), PATIENCE).await?;
    let arrived = published.elapsed();
    let first = ids.first().context("nothing was published")?;
    story::first_event(first, &handler, &admin).await?;
    story::totals(&ids, &handler, &admin.get("/v1/status", &[]).await?, arrived)?;

    if arguments.keep_running {
        story::keep_running(&config, &running.base_url, folder)?;
        tokio::signal::ctrl_c().await?;
    }
    stop(child).await?;
    let once = handler.each_once(&ids);
    story::end(once, ids.len(), began.elapsed())?;
    ensure!(once == ids.len(), "{once} of {} events arrived once", ids.len());
    Ok(())
}

/// A port that was free a moment ago; Altinn must be told it before the daemon binds it.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn start(config: &Path, folder: &Path) -> anyhow::Result<Child> {
    let log = File::create(folder.join("brevdue.log"))?;
    Command::new(std::env::current_exe()?)
        .arg("--config")
        .arg(config)
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the daemon")
}

async fn stop(mut child: Child) -> anyhow::Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).context("the daemon has ended")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = timeout(PATIENCE, child.wait()).await.context("the daemon does not stop")??;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

/// Looks until `look` sees something; a daemon that has ended will never show anything.
async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    child: &mut Child,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the daemon ended with {status}");
        }
        sleep(LOOK).await;
    }
    bail!("{what} did not come within {PATIENCE:?}")
}

async fn ready(admin: &AdminClient, child: &mut Child) -> anyhow::Result<()> {
    let look = || async { admin.get::<schema::Status>("/v1/status", &[]).await.ok() };
    until("readiness", child, || async { look().await.filter(|s| s.ready).map(drop) }).await
}

async fn validated(admin: &AdminClient, child: &mut Child) -> anyhow::Result<schema::Subscription> {
    let look = || async {
        let rows: Vec<schema::Subscription> = admin.get("/v1/subscriptions", &[]).await.ok()?;
        rows.into_iter().find(|row| row.state == "validated")
    };
    until("the validation", child, look).await
}

/// The stand-in's control API.
struct Altinn {
    client: reqwest::Client,
    base: String,
}

impl Altinn {
    fn new(running: &Running, folder: &Path) -> anyhow::Result<Self> {
        let client = http_client::build(PATIENCE, Some(&folder.join("ca.pem")))?;
        Ok(Self { client, base: running.base_url.clone() })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Has Correspondence publish; the events' ids.
    async fn publish(&self, count: u32) -> anyhow::Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Published {
            ids: Vec<String>,
        }
        let order = serde_json::json!({
            "resource": workspace::RESOURCE,
            "subject": workspace::ORG,
            "count": count,
        });
        let request = self.client.post(format!("{}/simulator/events", self.base)).json(&order);
        let published: Published = request.send().await?.error_for_status()?.json().await?;
        Ok(published.ids)
    }
}
