//! What commands write: aligned columns for people, JSON for programs.
//!
//! Owns standard output, and what becomes of a command when nobody reads it.

use std::{
    io::{self, StdoutLock, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log_lines::printable::{printable, printable_lines};

/// Between two looks whether standard output is read.
const LOOK: Duration = Duration::from_secs(1);

/// Rows under a head; every column as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// Only the head yet.
    pub(super) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    /// One more row. What could move a terminal's cursor is shown, not obeyed.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)));
    }

    /// Writes all of it.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes a value as JSON for a program, on one line each array element where it is an array.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(out().write_all(&json)?)
}

/// Whoever read standard output has gone away.
static READER_HAS_LEFT: AtomicBool = AtomicBool::new(false);

/// Standard output. Once nobody reads it, what is written is thrown away: the command goes on to its end, and ends
/// as it would have.
pub(super) fn out() -> Out {
    Out(io::stdout().lock())
}

/// See [`out`].
#[derive(Debug)]
pub(super) struct Out(StdoutLock<'static>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        read_or_left(bytes.len(), || self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        read_or_left((), || self.0.flush())
    }
}

fn read_or_left<T>(left: T, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if READER_HAS_LEFT.load(Ordering::Relaxed) {
        return Ok(left);
    }
    match write() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_HAS_LEFT.store(true, Ordering::Relaxed);
            Ok(left)
        }
        written => written,
    }
}

/// Whether standard output can still be read: a command that shows something until it is stopped has
/// nothing to do without a reader.
pub(super) fn is_read() -> bool {
    if READER_HAS_LEFT.load(Ordering::Relaxed) {
        return false;
    }
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    // What cannot be asked (it is no pipe) is seen when it is written to.
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seen = poll(&mut asked, Some(&at_once)).is_ok_and(|count| count > 0);
    let [stdout] = &asked;
    !(seen && stdout.revents().contains(PollFlags::ERR))
}

/// Waits until nobody reads standard output.
pub(super) async fn reader_left() {
    while is_read() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Says something beside the result, on standard error. That nobody reads it changes nothing.
pub(super) fn tell(text: &str) {
    drop(writeln!(io::stderr(), "{}", printable_lines(text)));
}

/// What is said on standard error before the process ends. Nobody may read it, or nobody is there any
/// more: that is waited for no longer than a second.
pub(super) fn last_words(text: String) {
    let (told, written) = sync_channel(1);
    let tell = move || {
        drop(io::stderr().write_all(text.as_bytes()));
        told.try_send(()).unwrap_or_default();
    };
    if thread::Builder::new().name("last words".to_owned()).spawn(tell).is_ok() {
        written.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    }
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_controls_are_shown() {
        let mut table = Table::new(["a", "b"]);
        table.row(["long".into(), "x\u{1b}[2J".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a     b\nlong  x\\u{1b}[2J\n");
    }
}
