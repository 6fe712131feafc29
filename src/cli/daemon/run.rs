//! `brevdue run`.

use std::{os::unix::net::UnixStream, path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use crate::{
    app::{
        App,
        files::{self, Findings},
        reload::Reload,
    },
    clock::Clock,
    config::Config,
    systemd, telemetry,
};

/// Runs until SIGTERM or SIGINT. Everything that is wrong with the configuration is told before anything begins.
pub(in crate::cli) fn run(path: &Path) -> anyhow::Result<()> {
    // The runtime panics when it gets fewer files than these: an error instead.
    drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(daemon(path));
    // A read of a file can hang with the disk; the process ends all the same.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn daemon(path: &Path) -> anyhow::Result<()> {
    let mut end = End::caught()?;
    let Some((config, findings)) = configured(path, &mut end).await? else { return Ok(()) };
    telemetry::start(&config.log)?;
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
            () = hangups(reload) => {}
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

/// The signals that end the daemon.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    /// From now on they are caught.
    fn caught() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one, and names it.
    async fn came(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Reads anew at each SIGHUP; ends only if signals cannot be had.
async fn hangups(reload: Arc<Reload>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be caught");
            return std::future::pending().await;
        }
    };
    while hangup.recv().await.is_some() {
        reload.all();
    }
}
