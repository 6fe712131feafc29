//! What commands write: aligned columns for people, JSON for programs.

use std::{
    io::{self, Write},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

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
    // Put together first: an error of serde's would hide that nobody reads.
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(io::stdout().write_all(&json)?)
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

/// Text from outside, safe on a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
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
