//! TOML as tables of values, or where and why it is none.
//!
//! Owns that a fault has its line, its column and, where it can be had, its key, and never has what else stands there.
//! What a value means is `setting`'s.

use std::ops::Range;

use ::config::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::key_path::join;

/// The tables of a text.
pub(in crate::config) fn tables(text: &str) -> Result<Map<String, Value>, String> {
    let root = DeTable::parse(text).map_err(|fault| told(text, &fault))?;
    table(root.into_inner(), "").map_err(|Unreadable { key, at, fault }| {
        format!("{}: {key}: {fault}", place(text, at.start))
    })
}

/// A value that TOML can have and we cannot.
struct Unreadable {
    key: String,
    at: Range<usize>,
    fault: &'static str,
}

fn table(table: DeTable<'_>, path: &str) -> Result<Map<String, Value>, Unreadable> {
    let one = |(key, read): (Spanned<_>, Spanned<DeValue<'_>>)| {
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        let read = value(read, &join(path, &key))?;
        Ok((key.into_owned(), read))
    };
    table.into_iter().map(one).collect()
}

fn value(read: Spanned<DeValue<'_>>, path: &str) -> Result<Value, Unreadable> {
    let at = read.span();
    let unreadable = |fault| Unreadable { key: path.to_owned(), at, fault };
    Ok(match read.into_inner() {
        DeValue::String(text) => Value::new(None, text.into_owned()),
        DeValue::Boolean(flag) => Value::new(None, flag),
        DeValue::Datetime(time) => Value::new(None, time.to_string()),
        DeValue::Integer(number) => {
            let read = i64::from_str_radix(number.as_str(), number.radix());
            Value::new(None, read.map_err(|_| unreadable("is too large a number"))?)
        }
        DeValue::Float(number) => {
            let written = number.as_str();
            let read = written.parse::<f64>().ok();
            let read = read.filter(|read| !read.is_infinite() || written.contains("inf"));
            Value::new(None, read.ok_or_else(|| unreadable("is too large a number"))?)
        }
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| value(item, path));
            Value::new(None, items.collect::<Result<Vec<_>, _>>()?)
        }
        DeValue::Table(inner) => Value::new(None, table(inner, path)?),
    })
}

/// The parser's words with their place, without the line itself.
fn told(text: &str, fault: &Error) -> String {
    let message = cured(fault.message());
    let Some(at) = fault.span() else {
        return format!("line {}: {message}", first_line_of(text, fault.message()));
    };
    let place = place(text, at.start);
    let key = text.get(at).filter(|key| fault.message() == DUPLICATE && key.len() <= LONGEST_KEY);
    match key {
        Some(key) => format!("{place}: {}: {message}", key.escape_debug()),
        None => format!("{place}: {message}"),
    }
}

const DUPLICATE: &str = "duplicate key";
const LONGEST_KEY: usize = 80;

fn cured(message: &str) -> String {
    match message {
        DUPLICATE => "duplicate key: it is there twice, take one out".to_owned(),
        _ if message.contains("recurs") => {
            format!("{message}: no setting lies so deep, take it out")
        }
        _ => message.to_owned(),
    }
}

fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

/// The line with which a text begins to have this fault, for the parser does not say it of all.
fn first_line_of(text: &str, message: &str) -> usize {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).chain([text.len()]).collect();
    let has_none = |end: &usize| {
        let part = text.get(..*end).unwrap_or(text);
        DeTable::parse(part).err().is_none_or(|fault| fault.message() != message)
    };
    ends.partition_point(has_none).min(ends.len().saturating_sub(1)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_line_and_the_key_where_there_is_one() {
        let deep = format!("a = 1\nb = {}1{}\n", "[".repeat(500), "]".repeat(500));
        let long = format!("a = 1\n\n{}c = 1\nd = 2\n", "b.".repeat(500));
        for (text, words) in [
            (
                "a = 1\n[t]\nb = 99999999999999999999\n",
                "line 3, column 5: t.b: is too large a number",
            ),
            ("a = [1, 0xffffffffffffffffff]\n", "line 1, column 9: a: is too large a number"),
            ("a = 1\nb = 1e999\n", "line 2, column 5: b: is too large a number"),
            ("t = { \"æ\" = -9999999999999999999 }\n", "column 13: t.\"æ\": is too large a number"),
            ("a = 1\nb = 2\na = 3\n", "line 3, column 1: a: duplicate key: it is there twice"),
            ("[t]\na = 1\n[t]\nb = 1\n", "line 3, column 2: t: duplicate key"),
            ("a = { b = 1, b = 2 }\n", "line 1, column 14: b: duplicate key"),
            (deep.as_str(), "line 2"),
            (long.as_str(), "line 3"),
            ("a = hunter2\n", "line 1, column 5"),
            ("a = \"hunter2\n", "line 1"),
        ] {
            let told = tables(text).unwrap_err();
            assert!(told.contains(words), "{words}: {told}");
            assert!(!told.contains("hunter2") && !told.contains('\n'), "{told}");
        }
        for deep in [deep, long] {
            let told = tables(&deep).unwrap_err();
            assert!(told.contains("no setting lies so deep"), "{told}");
        }
    }

    #[test]
    fn what_is_infinite_by_its_word_is_a_number() {
        assert!(tables("a = inf\nb = -inf\nc = nan\nd = 1e308\ne = -9223372036854775808").is_ok());
    }
}
