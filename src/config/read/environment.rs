//! The environment as a layer: `BREVDUE__SECTION__KEY`.
//!
//! Owns which variables count and what a list looks like there. `config` would take the odd ones
//! too, but then which of two wins depends on a hash, and an index (`A[9999999999]`) is allocated.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
};

use ::config::Environment;

use super::{
    section::Reading,
    variable::{SEPARATOR, key},
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
        if key(&shown).is_none() {
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
) -> Environment {
    let mut settings = BTreeMap::new();
    for (name, value) in variables {
        let Some(path) = key(name) else { continue };
        if !is_path(&path) {
            reading.note(name, "is not the name of a setting, which is BREVDUE__SECTION__KEY");
        } else if settings.insert(path, (name.clone(), value.clone())).is_some() {
            reading.note(name, "is in the environment twice: case does not count");
        }
    }
    let mut source = HashMap::new();
    for (path, (name, value)) in &settings {
        let below = format!("{path}{SEPARATOR}");
        if settings.keys().any(|other| other.starts_with(&below)) {
            reading.note(name, "is in the environment both as a value and as a section");
        } else {
            source.insert(name.clone(), value.clone());
        }
    }
    Environment::with_prefix("BREVDUE")
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(source))
}

fn is_path(key: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let parts = || key.split(SEPARATOR);
    parts().count() <= DEEPEST && parts().all(|part| !part.is_empty() && part.chars().all(legal))
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
