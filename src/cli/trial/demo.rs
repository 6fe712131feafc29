//! `brevdue demo`: the whole way of an event in one command, on a fresh machine.
//!
//! The stand-in and the printing handler run here; the daemon is this same program, started as
//! anyone would start it.

mod handler;
mod story;

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    admin::schema,
    cli::{admin_client::AdminClient, output::reader_left, signals},
    http_client,
    simulator::{
        Running, Simulator,
        workspace::{self, Credentials},
    },
};

/// Each stage of the demo ends within this, or the demo fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is about to happen.
const LOOK: Duration = Duration::from_millis(10);

/// Files that may be open at least: those of the stand-in, of the handler, and of the daemon's clients.
const FILES: u64 = 256;

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
    // Before there is anything that would have to be ended and removed.
    let (runtime, mut signals) = signals::runtime(FILES)?;
    // Private keys are in it; who kills this process leaves it behind.
    let private = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("brevdue-demo-").permissions(private).tempdir()?;
    let mut daemon = Daemon::default();
    let result = runtime.block_on(async {
        let result = tokio::select! {
            shown = show(arguments, folder.path(), &mut daemon) => shown,
            signal = signals.any() => Err(anyhow!("{signal} before the demo was complete")),
        };
        if arguments.keep_running
            && let Ok(stage) = &result
        {
            stage.keep_running(folder.path())?;
            tokio::select! {
                _ = signals.any() => {}
                () = reader_left() => {}
            }
        }
        // A second signal ends even that.
        let ended = tokio::select! {
            ended = daemon.end() => ended,
            _ = signals.any() => Err(anyhow!("the daemon did not end in its order")),
        };
        daemon.kill().await?;
        result.and_then(|stage| ended.and_then(|()| stage.result()))
    });
    let log = fs::read_to_string(folder.path().join("brevdue.log")).unwrap_or_default();
    // Whatever happened, it goes, and if it cannot, that is told.
    folder.close().context("cannot remove the demo's folder")?;
    if result.is_err() {
        story::daemon_log(&log);
    }
    result
}

/// What the demo has set up, and sent.
struct Stage {
    began: Instant,
    handler: handler::Printing,
    simulator: Running,
    config: PathBuf,
    ids: Vec<String>,
}

impl Stage {
    fn keep_running(&self, folder: &Path) -> anyhow::Result<()> {
        story::keep_running(&self.config, &self.simulator.base_url, folder)
    }

    fn result(&self) -> anyhow::Result<()> {
        let (once, all) = (self.handler.each_once(&self.ids), self.ids.len());
        story::end(once, all, self.began.elapsed())?;
        ensure!(once == all, "{once} of {all} events arrived once");
        Ok(())
    }
}

async fn show(arguments: &Arguments, folder: &Path, daemon: &mut Daemon) -> anyhow::Result<Stage> {
    let began = Instant::now();
    let handler = handler::Printing::start().await?;
    let credentials = Credentials::new()?;
    let running = Simulator::start(credentials.options()?).await?;
    let listen = free_port()?;
    let handlers = format!("[handlers.skriver]\nkind = \"http\"\nurl = \"{}\"\n", handler.url());
    let wanted = workspace::Daemon { listen, handlers: &handlers, settings: "" };
    let config = workspace::write_workspace(folder, &running, &credentials, wanted)?;
    story::stage(&running.base_url, &handler.url(), folder)?;

    let started = Instant::now();
    daemon.start(&config, folder)?;
    let admin = AdminClient::new(&folder.join("admin.sock"))?;
    ready(&admin, daemon).await?;
    story::ready(listen, started.elapsed())?;
    let altinn = Altinn::new(&running, folder)?;
    let subscription = validated(&admin, daemon).await?;
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

    Ok(Stage { began, handler, simulator: running, config, ids })
}

/// A port that was free a moment ago; Altinn must be told it before the daemon binds it.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The daemon of the demo, while it runs.
#[derive(Default)]
struct Daemon(Option<Child>);

impl Daemon {
    /// Starts it with an environment of its own: variables of whoever runs the demo would change its
    /// configuration, and take what it sends on loopback to a proxy.
    fn start(&mut self, config: &Path, folder: &Path) -> anyhow::Result<()> {
        let log = File::create(folder.join("brevdue.log"))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("--config")
            .arg(config)
            .args(["run", "--while-stdin-is-open"])
            .env_clear()
            // Its other end closes with this process, however that ends, and then the daemon ends, too.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is the demo's, which ends the daemon in its order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the daemon")?;
        self.0 = Some(child);
        Ok(())
    }

    /// How it ended, if it did by itself.
    fn has_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    /// Asks it to end, and waits for that; if it does not, it is killed.
    async fn end(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.0 else { return Ok(()) };
        // Without a number it has ended by itself.
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = timeout(PATIENCE, child.wait()).await.context("the daemon did not stop")?;
        self.0 = None;
        let status = ended?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    /// Ends it at once.
    async fn kill(&mut self) -> anyhow::Result<()> {
        match self.0.take() {
            Some(mut child) => Ok(child.kill().await?),
            None => Ok(()),
        }
    }
}

/// Looks until `look` sees something; a daemon that has ended will never show anything.
async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    daemon: &mut Daemon,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if let Some(status) = daemon.has_ended()? {
            bail!("the daemon ended with {status}");
        }
        sleep(LOOK).await;
    }
    bail!("{what} did not come within {PATIENCE:?}")
}

async fn ready(admin: &AdminClient, daemon: &mut Daemon) -> anyhow::Result<()> {
    let look = || async { admin.get::<schema::Status>("/v1/status", &[]).await.ok() };
    until("readiness", daemon, || async { look().await.filter(|s| s.ready).map(drop) }).await
}

async fn validated(
    admin: &AdminClient,
    daemon: &mut Daemon,
) -> anyhow::Result<schema::Subscription> {
    let look = || async {
        let rows: Vec<schema::Subscription> = admin.get("/v1/subscriptions", &[]).await.ok()?;
        rows.into_iter().find(|row| row.state == "validated")
    };
    until("the validation", daemon, look).await
}

/// The stand-in's control API.
struct Altinn {
    client: reqwest::Client,
    base: String,
}

impl Altinn {
    fn new(running: &Running, folder: &Path) -> anyhow::Result<Self> {
        // It is on this machine: no proxy is asked.
        let builder = http_client::builder(PATIENCE).no_proxy();
        let client = http_client::with_ca(builder, Some(&folder.join("ca.pem")))?.build()?;
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
