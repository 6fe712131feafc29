//! Where log lines go: journald under systemd, else text or JSON on standard error.
//!
//! Owns the formats, and what is told of a panic. Nothing here waits for whoever reads the log:
//! `lines` has a bounded queue and a thread for that, and lines for which there is no room are counted.

mod journald;
mod lines;

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    panic::{self, PanicHookInfo},
    thread,
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use self::lines::dropped;
use self::lines::{Lines, StandardError};
use crate::{
    config::{Log, LogFormat},
    log_lines::printable::{printable, printable_json_line},
};

/// At the end of the process the last lines get so much time to be read.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no filter.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The thread that writes cannot be started.
    #[error("cannot start the log: {0}")]
    Start(#[from] io::Error),
    /// A second start in one process.
    #[error("logging was started before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The log of the process. When it is dropped, what was logged last gets a moment to be read.
#[must_use]
#[derive(Debug)]
pub struct Logging(Lines);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// What a stranger can have the HTTP/2 library say as often as it likes. Whoever wants to see it names it
/// in `log.level`, which comes after this.
const QUIET: &str = "h2=error";

/// Starts logging for the process; once.
pub fn start(log: &Log) -> Result<Logging, TelemetryError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level))?;
    let wants_journal = log.format == LogFormat::Auto && env::var_os("JOURNAL_STREAM").is_some();
    let journal = wants_journal.then(journald::Journal::connect);
    let (layer, lines): (Box<dyn Layer<Registry> + Send + Sync>, Lines) = match (
        journal, log.format,
    ) {
        (Some(Ok(journal)), _) => {
            let lines = Lines::start(journal)?;
            (journald::JournaldLayer::new(lines.clone()).boxed(), lines)
        }
        (Some(Err(error)), _) => {
            let lines = standard_error()?;
            let layer = text(lines.clone(), Escape::Text);
            tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
            panic::set_hook(Box::new(panicked));
            // A container has the variable of the service that started it, and not its journald.
            tracing::warn!(
                setting = "log.format",
                %error,
                "JOURNAL_STREAM is set, and there is no journald: the log is text on standard error; set log.format to \
                 say so, or take the variable away"
            );
            return Ok(Logging(lines));
        }
        (None, LogFormat::Auto | LogFormat::Text) => {
            let lines = standard_error()?;
            (text(lines.clone(), Escape::Text).boxed(), lines)
        }
        (None, LogFormat::Json) => {
            let lines = standard_error()?;
            (text(lines.clone(), Escape::Json).json().flatten_event(true).boxed(), lines)
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    panic::set_hook(Box::new(panicked));
    Ok(Logging(lines))
}

/// Its own descriptor, and not `io::stderr()`, whose lock would be held while nobody reads.
fn standard_error() -> io::Result<Lines> {
    let error = io::stderr().as_fd().try_clone_to_owned()?;
    Lines::start(StandardError(File::from(error)))
}

type Format = tracing_subscriber::fmt::format::Format;
type Fields = tracing_subscriber::fmt::format::DefaultFields;

fn text(
    lines: Lines,
    escape: Escape,
) -> tracing_subscriber::fmt::Layer<Registry, Fields, Format, OneLine> {
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(OneLine { lines, escape })
}

/// A panic as a line of the log: on standard error its words could wait for ever to be read. What it says
/// itself can be personal.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let at = panic.location().map(tracing::field::display);
    tracing::error!(thread = thread.name(), at, "a thread panicked");
}

/// How a character that is not shown as it is is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    Text,
    Json,
}

/// Takes an event's line, in which nothing moves a terminal's cursor, begins another line, or is hidden.
#[derive(Debug, Clone)]
struct OneLine {
    lines: Lines,
    escape: Escape,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for OneLine {
    /// Called with a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.push(one_line(line, self.escape));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn one_line(line: &[u8], escape: Escape) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut whole = match escape {
        Escape::Text => printable(text),
        Escape::Json => printable_json_line(text),
    };
    whole.push('\n');
    whole.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_holds_makes_no_second_line_and_moves_no_cursor() {
        let line = "id=a\nINFO forged \u{1b}[2J\u{9b}2J\u{7f}\tæ\u{202e}\n".as_bytes();
        for (escape, expected) in [
            (Escape::Text, "id=a\\nINFO forged \\u{1b}[2J\\u{9b}2J\\u{7f}\\tæ\\u{202e}\n"),
            (Escape::Json, "id=a\\u000aINFO forged \\u001b[2J\\u009b2J\\u007f\\u0009æ\\u202e\n"),
        ] {
            assert_eq!(String::from_utf8(one_line(line, escape)).unwrap(), expected, "{escape:?}");
        }
    }
}
