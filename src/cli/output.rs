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

/// Text from outside as one line, safe on a terminal.
pub(super) fn printable(text: &str) -> String {
    shown(text, |c| c.escape_default().to_string())
}

/// The same for a text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The same for JSON, which stays the same JSON: what a terminal could obey stands in its texts,
/// where an escape means the same. White space is white space.
pub(super) fn printable_json(json: &str) -> String {
    shown(json, |c| match c {
        '\n' => "\n".to_owned(),
        '\t' | '\r' => " ".to_owned(),
        _ => format!("\\u{:04x}", u32::from(c)),
    })
}

fn shown(text: &str, escape: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { out.push_str(&escape(c)) } else { out.push(c) }
    }
    out
}

/// Whether a terminal may do something with it instead of showing it: controls, C1 and DEL among
/// them, and what breaks lines or turns the direction of writing.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
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

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_and_json_means_the_same() {
        let odd = "a\u{9b}2J\u{7f}\u{202e}\u{2028}å \u{61c}";
        assert_eq!(printable(odd), r"a\u{9b}2J\u{7f}\u{202e}\u{2028}å \u{61c}");
        assert_eq!(printable("a\nb"), r"a\nb");
        assert_eq!(printable_lines("a\u{1b}\nb"), "a\\u{1b}\nb");
        let json = format!("{{\r\n\t\"{odd}\":\t\"{odd}\"}}");
        let shown = printable_json(&json);
        assert!(shown.chars().all(|c| c == '\n' || !is_obeyed(c)), "{shown}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(&json));
    }
}
