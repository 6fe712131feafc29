//! `brevdue run`.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{signal::unix::Signal, task::JoinSet};

use crate::{
    app::{App, files, reload::Reload},
    cli::signals::{self, End, Signals},
    clock::Clock,
    config::Config,
    systemd, telemetry,
};

/// Runs until SIGTERM or SIGINT. Everything that is wrong with the configuration is told before anything begins.
pub(in crate::cli) fn run(path: &Path) -> anyhow::Result<()> {
    // Before all else: a signal during the start must not end the daemon halfway.
    let (runtime, signals) = signals::runtime()?;
    let (config, findings) = files::configuration(path, true, &Clock::System)?;
    let _log = telemetry::start(&config.log)?;
    for warning in &findings.warnings {
        tracing::warn!(setting = %warning.key, "{}", warning.message);
    }
    let result = runtime.block_on(daemon(config, signals));
    // A read of the store can hang with the disk; the process ends all the same.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn daemon(config: Config, signals: Signals) -> anyhow::Result<()> {
    let Signals { mut end, hangup } = signals;
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
        reload.all();
    }
}
