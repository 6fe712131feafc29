//! Log lines as journald takes them: a datagram of fields for each event.
//!
//! Owns the format (`systemd.io/JOURNAL_NATIVE_PROTOCOL`). Sending is the thread's of `lines`: journald
//! does not read while it is stopped or its disk is slow, and then a datagram waits.

use std::{
    fmt::{self, Write as _},
    io,
    os::unix::net::UnixDatagram,
    path::PathBuf,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::lines::{Lines, Sink};
use crate::log_lines::printable::printable;

const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "brevdue";

/// journald's socket.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// An error if nobody is there.
    pub(super) fn connect() -> io::Result<Self> {
        Self::at(SOCKET.into())
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // journald passes over an empty one. One that does not read now is there all the same.
        socket.set_nonblocking(true)?;
        match socket.send_to(&[], &path) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        socket.set_nonblocking(false)?;
        Ok(Self { socket, path })
    }
}

impl Sink for Journal {
    /// To the path each time: journald can have been started anew.
    fn put(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.path).map(drop)
    }
}

/// Writes events as datagrams.
#[derive(Debug)]
pub(super) struct JournaldLayer {
    lines: Lines,
}

impl JournaldLayer {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl<S: Subscriber> Layer<S> for JournaldLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut datagram = Datagram::default();
        datagram.put("PRIORITY", priority(*metadata.level()));
        datagram.put("SYSLOG_IDENTIFIER", IDENTIFIER);
        datagram.put("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            datagram.put("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            datagram.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut datagram);
        self.lines.push(datagram.0);
    }
}

/// As of syslog(3): error, warning, notice, informational, debug.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

#[derive(Debug, Default)]
struct Datagram(Vec<u8>);

impl Datagram {
    /// A field with its length, so that its value can hold anything.
    fn put(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or_default();
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Datagram {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Into a String it fails only if the value itself does.
        write!(text, "{value:?}").unwrap_or_default();
        // journalctl shows it as it is, and a field with its value exactly only when it is asked to.
        let text = if field.name() == "message" { printable(&text) } else { text };
        self.put(&name(field.name()), &text);
    }
}

/// `MESSAGE`, or a name of our own: capital letters, digits and underscores after an `F_`.
fn name(field: &str) -> String {
    if field == "message" {
        return "MESSAGE".to_owned();
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("F_{}", field.chars().map(legal).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn journal() -> (tempfile::TempDir, UnixDatagram, JournaldLayer) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let lines = Lines::start(Journal::at(path).unwrap()).unwrap();
        let mut empty = [1];
        assert_eq!(reader.recv(&mut empty).unwrap(), 0, "it asks whether anyone is there");
        (folder, reader, JournaldLayer::new(lines))
    }

    #[test]
    fn an_event_is_a_datagram_of_fields() {
        let (_folder, reader, layer) = journal();
        let id = "a\nPRIORITY=0";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(event.id = %id, times = 2, "it is told of {id}");
        });
        let mut datagram = vec![0; 4096];
        let read = reader.recv(&mut datagram).unwrap();
        let datagram = String::from_utf8(datagram[..read].to_vec()).unwrap();
        for (name, value) in [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "brevdue"),
            ("TARGET", module_path!()),
            ("CODE_FILE", file!()),
            ("MESSAGE", "it is told of a\\nPRIORITY=0"),
            ("F_EVENT_ID", id),
            ("F_TIMES", "2"),
        ] {
            let mut field = Datagram::default();
            field.put(name, value);
            let field = String::from_utf8(field.0).unwrap();
            assert!(datagram.contains(&field), "{name} in {datagram:?}");
        }
    }

    #[test]
    fn a_journal_that_does_not_read_holds_up_nobody() {
        let (_folder, reader, layer) = journal();
        let (lines, began) = (layer.lines.clone(), Instant::now());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            (0..20_000).for_each(|n| tracing::info!(n, "one of many"));
        });
        lines.flush(Duration::from_millis(1));
        assert!(began.elapsed() < Duration::from_secs(60), "it waited");
        // Once it reads, it gets what was kept.
        let mut datagram = [0; 1024];
        (0..1000).for_each(|_| assert!(reader.recv(&mut datagram).unwrap() > 0));
    }

    #[test]
    fn a_journal_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Journal::at(folder.path().join("socket")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
