//! The environment as a layer: `BREVDUE__SECTION__KEY`.
//!
//! Owns which variables count and where their values go. `config` has a source for this, which takes the odd
//! ones, too; but then which of two wins depends on a hash, an index (`A[9999999999]`) is allocated, and the
//! keys of free tables lose their case.

use std::{collections::BTreeMap, ffi::OsString};

use ::config::{Map, Value, ValueKind};

use super::{
    section::Reading,
    variable::{ORIGIN, path},
};

/// No key lies deeper than `handlers.NAME.retry.max`.
const DEEPEST: usize = 6;

/// The variables that are ours, out of the process's; the second part has those that are not text.
pub(in crate::config) fn ours(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut texts, mut others) = (BTreeMap::new(), Vec::new());
    for (name, value) in all {
        let shown = name.to_string_lossy().into_owned();
        if path(&shown).is_none() {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                texts.insert(name, value);
            }
            (Ok(_) | Err(_), _) => others.push(shown),
        }
    }
    (texts, others)
}

/// The layer; what cannot be a setting is reported and left out.
pub(in crate::config) fn layer(
    variables: &BTreeMap<String, String>,
    reading: &Reading<'_>,
) -> Map<String, Value> {
    let mut settings: BTreeMap<Vec<String>, (&str, &str)> = BTreeMap::new();
    for (name, value) in variables {
        let Some(path) = path(name) else { continue };
        if !is_path(&path) {
            reading.note(name, "is not the name of a setting, which is BREVDUE__SECTION__KEY");
        } else if settings.insert(path, (name, value)).is_some() {
            reading.note(name, "is in the environment twice: case does not count, so take one out");
        }
    }
    let mut layer = Map::new();
    for (path, (name, value)) in &settings {
        let is_section = |other: &&Vec<String>| other.len() > path.len() && other.starts_with(path);
        if settings.keys().any(|other| is_section(&other)) {
            reading.note(
                name,
                "is in the environment both as a value and as a section: take one of the two out",
            );
        } else {
            put(&mut layer, path, value);
        }
    }
    layer
}

/// Puts a text at its place; tables on the way are made.
fn put(table: &mut Map<String, Value>, path: &[String], text: &str) {
    let origin = ORIGIN.to_owned();
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), Value::new(Some(&origin), text));
        }
        [key, below @ ..] => {
            let empty = || Value::new(Some(&origin), Map::<String, Value>::new());
            let inner = table.entry(key.clone()).or_insert_with(empty);
            if let ValueKind::Table(inner) = &mut inner.kind {
                put(inner, below, text);
            }
        }
    }
}

fn is_path(path: &[String]) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    path.len() <= DEEPEST && path.iter().all(|part| !part.is_empty() && part.chars().all(legal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_told_and_others_are_left_alone() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![0xff]);
        let (texts, others) = ours(
            [
                ("BREVDUE__LOG__LEVEL".into(), "info".into()),
                ("BREVDUE__DATA_DIR".into(), broken()),
                ("OTHER".into(), broken()),
            ]
            .into_iter(),
        );
        assert_eq!(texts.into_keys().collect::<Vec<_>>(), ["BREVDUE__LOG__LEVEL"]);
        assert_eq!(others, ["BREVDUE__DATA_DIR"]);
    }
}
