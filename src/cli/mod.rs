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
    env,
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    daemon::{check, doctor, run, verify},
    operator::{dead_letters, events, handlers, status, subscriptions},
    output::out,
    trial::{demo, simulator},
};
use crate::{
    app::descriptors::TooFewFiles,
    config::{Config, error::ConfigError},
    error_chain::in_one_line,
    log_lines::printable::{printable, printable_lines},
    systemd::PassedError,
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
        hide_env_values = true,
        default_value = "/etc/brevdue/brevdue.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run(run::Arguments),
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
    let arguments: Vec<_> = env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(told) => return ended_by(&told, &arguments),
    };
    match dispatch(cli).and_then(|()| Ok(out().flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::last_words(format!("brevdue: {}\n", why(&error)));
            let misconfigured = error.chain().any(|cause| {
                cause.is::<ConfigError>() || cause.is::<TooFewFiles>() || cause.is::<PassedError>()
            });
            if misconfigured { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// An error with its causes. Only the faults of a configuration stand one under the other.
fn why(error: &anyhow::Error) -> String {
    let told = in_one_line(error.as_ref());
    let has_lines = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(ConfigError::Invalid { .. }))
    };
    if error.chain().any(has_lines) { printable_lines(&told) } else { printable(&told) }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let config = || Config::load(&cli.config);
    match cli.command {
        Command::Run(arguments) => run::run(&arguments, &cli.config),
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
            Ok(out().write_all(&script)?)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Ok(out().write_all(&page)?)
        }
    }
}

/// Prints help, the version, or what is wrong with the arguments.
fn ended_by(told: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if told.use_stderr() {
        let code = u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        if arguments.iter().all(|argument| **argument == *shown(argument)) {
            drop(told.print());
        } else {
            output::last_words(in_printable(told, arguments));
        }
        return code;
    }
    // In colours where they are seen.
    match told.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::last_words(format!("brevdue: {error}\n"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// What is wrong with arguments that cannot be shown as they are: with the same in a form that can.
fn in_printable(told: &clap::Error, arguments: &[OsString]) -> String {
    let again = Cli::try_parse_from(arguments.iter().map(|argument| shown(argument))).err();
    printable_lines(&again.as_ref().unwrap_or(told).render().to_string())
}

fn shown(argument: &OsStr) -> String {
    printable(&argument.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_wrong_with_arguments_is_told_in_printable_words() {
        for odd in ["\u{1b}[2J\nerror: forged", "\u{202e}gpj", "--\u{9b}2J=1", "--events=\u{feff}"]
        {
            let arguments = ["brevdue".into(), "demo".into(), OsString::from(odd)];
            let told = Cli::try_parse_from(&arguments).unwrap_err();
            let shown = in_printable(&told, &arguments);
            assert_eq!(printable_lines(&shown), shown);
            assert_eq!(
                shown.lines().filter(|line| line.starts_with("error")).count(),
                1,
                "{shown}"
            );
        }
    }
}
