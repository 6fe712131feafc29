//! `brevdue simulator`.

use std::{
    io::Write,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        output::{out, reader_left, tell},
        signals,
    },
    config::{Log, LogFormat},
    log_lines::printable::printable,
    simulator::{
        Simulator,
        workspace::{self, Credentials, Daemon, Found},
    },
    telemetry,
};

/// What the daemon in the folder does with its events until someone edits its configuration.
const HANDLERS: &str = r#"[handlers.logg]
kind = "file"
path = "events.jsonl"
"#;

/// Files that may be open at least.
const FILES: u64 = 256;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The folder for certificates, a client key and a configuration for a daemon.
    #[arg(long, default_value = "brevdue-simulator")]
    dir: PathBuf,
    /// Where to listen; loopback only.
    #[arg(long, default_value = "127.0.0.1:8450")]
    listen: SocketAddr,
    /// Where the daemon of the configuration is to listen.
    #[arg(long, default_value = "127.0.0.1:8443")]
    daemon: SocketAddr,
    /// Altinn's delays and cache times are divided by this.
    #[arg(long, default_value = "1")]
    time_scale: NonZeroU32,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (runtime, mut signals) = signals::runtime(FILES)?;
    let _log = telemetry::start(&Log { format: LogFormat::Text, level: "info".to_owned() })?;
    runtime.block_on(async {
        let found = workspace::found(&arguments.dir)?;
        let credentials = Credentials::new()?;
        let mut options = credentials.options()?;
        options.listen = arguments.listen;
        let names = workspace::names(arguments.listen.ip());
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        options.tls = Some(credentials.ca.server_config(&names)?);
        options.time_scale = arguments.time_scale;
        let running = Simulator::start(options).await?;
        let daemon = Daemon { listen: arguments.daemon, handlers: HANDLERS, settings: "" };
        let config = workspace::write_workspace(&arguments.dir, &running, &credentials, daemon)?;
        if found == Found::Changed {
            let (path, base) = (shown(&config), &running.base_url);
            tell(&format!(
                "{path} was changed, and stays as it is. It should name {base} as \
                 altinn.platform_url, and {base}/maskinporten/ as altinn.maskinporten_issuer."
            ));
        }
        explain(&running.base_url, arguments, &shown(&config))?;
        tokio::select! {
            signal = signals.any() => tracing::info!("{signal}: stopping"),
            () = reader_left() => tracing::info!("nobody reads standard output any more: stopping"),
        }
        running.stop().await;
        Ok(())
    })
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

fn explain(base: &str, arguments: &Arguments, config: &str) -> anyhow::Result<()> {
    let ca = arguments.dir.join("ca.pem");
    let (ca, resource) = (shown(&ca), workspace::RESOURCE);
    let org = workspace::ORG;
    writeln!(
        out(),
        "The Altinn stand-in listens on {base}. Until Ctrl-C:\n\
         \n\
         start a daemon:    brevdue --config {config} run\n\
         look at it:        brevdue --config {config} status\n\
         publish an event:  curl --cacert {ca} {base}/simulator/events \\\n\
         \x20                    -d '{{\"resource\":\"{resource}\",\"subject\":\"{org}\"}}'\n\
         what was pushed:   curl --cacert {ca} {base}/simulator/deliveries"
    )?;
    Ok(())
}
