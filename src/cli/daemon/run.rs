//! `brevdue run`.

use std::{os::unix::net::UnixStream, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::{App, reload::Reload},
    clock::Clock,
    config::Config,
    systemd, telemetry,
};

/// Runs until SIGTERM or SIGINT.
pub(in crate::cli) fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    // The runtime panics when it gets fewer files than these: an error instead.
    drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(daemon(config));
    // A read of the store can hang with the disk; the process ends all the same.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn daemon(config: Config) -> anyhow::Result<()> {
    // Caught from now on: a signal during the start must end it well, too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start(config, Clock::System).await?;
    for address in &app.addresses {
        tracing::info!(listening = %address, "hooks are answered");
    }
    systemd::ready();
    let reload = app.reload();
    let stop = async {
        let hangups = hangups(reload);
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            () = hangups => {}
        }
    };
    app.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
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
