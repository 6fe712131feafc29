//! Arguments, commands, exit codes.
//!
//! Owns what a person at a terminal says and sees; each command is a file below this one.

mod admin_client;
mod daemon;
mod operator;
mod output;
mod runtime;
mod signals;
mod trial;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    daemon::{check, doctor, run, verify},
    operator::{dead_letters, events, handlers, status, subscriptions},
    output::printable_lines,
    trial::{demo, simulator},
};
use crate::{
    config::{Config, error::ConfigError},
    error_chain::in_one_line,
    systemd,
};

/// Something is wrong with the configuration (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;

/// Receives Altinn events and other `CloudEvents`, stores each before it answers 200, and forwards
/// it until it is delivered.
#[derive(Debug, Parser)]
#[command(name = "brevdue", version, about, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "BREVDUE_CONFIG",
        default_value = "/etc/brevdue/brevdue.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run,
    /// Check the configuration, offline: every problem at once.
    Check,
    /// Look at every step between this machine and an event, and say what to do where one fails.
    /// Asks Maskinporten and Altinn, and changes nothing.
    Doctor(doctor::Arguments),
    /// What Altinn has, what would change, and changing it.
    #[command(subcommand)]
    Subscriptions(subscriptions::Command),
    /// What a running daemon is doing.
    Status(status::Arguments),
    /// The log of stored events.
    #[command(subcommand)]
    Events(events::Command),
    /// The handlers: how far they are, pausing and forgetting them.
    #[command(subcommand)]
    Handlers(handlers::Command),
    /// Deliveries that were given up, and pushes that could not be read.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Read the whole store and check it; with --repair, go on with what is whole. The daemon must be
    /// stopped.
    Verify(verify::Arguments),
    /// An Altinn stand-in on loopback, for trying and testing.
    Simulator(simulator::Arguments),
    /// The whole way of an event, in one command: simulator, daemon and a printing handler.
    Demo(demo::Arguments),
    /// Completions for a shell.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// The manual page, in roff.
    Man,
}

/// Runs what the arguments say, and tells how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return ended_by(&told),
    };
    // A daemon has no reader whose leaving would be its end.
    let has_reader = !matches!(cli.command, Command::Run);
    match dispatch(cli).and_then(|()| Ok(io::stdout().flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if has_reader && broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let why = in_one_line(error.as_ref());
            output::last_words(format!("brevdue: {}\n", printable_lines(&why)));
            let misconfigured = error
                .chain()
                .any(|cause| cause.is::<ConfigError>() || cause.is::<systemd::PassedError>());
            if misconfigured { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let config = || Config::load(&cli.config);
    match cli.command {
        Command::Run => run::run(&cli.config),
        Command::Check => check::run(&cli.config),
        Command::Doctor(arguments) => doctor::run(&arguments, &config()?),
        Command::Subscriptions(command) => subscriptions::run(&command, &config()?),
        Command::Status(arguments) => status::run(&arguments, &config()?),
        Command::Events(command) => events::run(&command, &config()?),
        Command::Handlers(command) => handlers::run(&command, &config()?),
        Command::DeadLetters(command) => dead_letters::run(&command, &config()?),
        Command::Verify(arguments) => verify::run(&arguments, &config()?),
        Command::Simulator(arguments) => simulator::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions { shell } => {
            // Put together first: clap panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "brevdue", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}

/// Prints help, the version, or what is wrong with the arguments.
fn ended_by(told: &clap::Error) -> ExitCode {
    let printed = told.print().and_then(|()| io::stdout().flush());
    match (told.use_stderr(), printed) {
        (true, _) => u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
        (false, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::last_words(format!("brevdue: {error}\n"));
            ExitCode::FAILURE
        }
        (false, _) => ExitCode::SUCCESS,
    }
}

/// `brevdue events list | head` is no failure. A connection that broke is one: only what was written here
/// is an error of its own, and not the cause of another.
fn broken_pipe(error: &anyhow::Error) -> bool {
    let written = error.downcast_ref::<io::Error>();
    written.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
