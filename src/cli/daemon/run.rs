//! `brevdue run`.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{signal::unix::Signal, task::JoinSet};

use crate::{
    app::{
        App, descriptors,
        files::{self, Findings},
        reload::Reload,
    },
    cli::signals::{self, End, Signals},
    clock::Clock,
    config::Config,
    systemd, telemetry,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Stop, too, when standard input, a pipe, is closed: with the process that has its other end.
    #[arg(long, hide = true)]
    while_stdin_is_open: bool,
}

/// Runs until SIGTERM or SIGINT. Everything that is wrong with the configuration is told before anything begins.
pub(in crate::cli) fn run(arguments: &Arguments, path: &Path) -> anyhow::Result<()> {
    // Before all else: a signal during the start must not end the daemon halfway.
    let (runtime, mut signals) = signals::runtime(descriptors::LEAST)?;
    if arguments.while_stdin_is_open {
        let _entered = runtime.enter();
        signals.end.comes_with_stdin()?;
    }
    let result = runtime.block_on(daemon(path, signals));
    // A read of a file can hang with the disk; the process ends all the same.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn daemon(path: &Path, signals: Signals) -> anyhow::Result<()> {
    let Signals { mut end, hangup } = signals;
    let Some((config, findings)) = configured(path, &mut end).await? else { return Ok(()) };
    let _log = telemetry::start(&config.log)?;
    for warning in &findings.warnings {
        tracing::warn!(setting = %warning.key, "{}", warning.message);
    }
    let Some(app) = start(config, &mut end).await? else { return Ok(()) };
    for address in &app.addresses {
        tracing::info!(listening = %address, "hooks are answered");
    }
    systemd::ready();
    let reload = app.reload();
    let stop = async {
        tokio::select! {
            signal = end.came() => tracing::info!("{signal}: stopping"),
            () = hangups(hangup, reload) => {}
        }
    };
    app.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Reads the configuration and all that it names; nothing if it is to end before that.
async fn configured(path: &Path, end: &mut End) -> anyhow::Result<Option<(Config, Findings)>> {
    let path = path.to_owned();
    let mut reading = JoinSet::new();
    reading.spawn_blocking(move || files::configuration(&path, true, &Clock::System));
    tokio::select! {
        _ = end.came() => Ok(None),
        Some(read) = reading.join_next() => {
            let (config, findings) = read?;
            Ok(Some((config?, findings)))
        }
    }
}

/// Starts everything; nothing if it is to end before that.
///
/// The start runs in a task of its own, for it reads files, and a disk that hangs must not keep the
/// signal from being heard. A start that is left alone has written nothing that a crash at the same
/// moment would not have left.
async fn start(config: Config, end: &mut End) -> anyhow::Result<Option<App>> {
    let mut starting = JoinSet::new();
    starting.spawn(App::start(config, Clock::System));
    tokio::select! {
        signal = end.came() => {
            tracing::info!("{signal} before the start was complete: stopping");
            systemd::stopping();
            Ok(None)
        }
        Some(started) = starting.join_next() => Ok(Some(started??)),
    }
}

/// Reads anew at each SIGHUP, also for one that came during the start.
async fn hangups(mut hangup: Signal, reload: Arc<Reload>) {
    while hangup.recv().await.is_some() {
        Arc::clone(&reload).all().await;
    }
}
