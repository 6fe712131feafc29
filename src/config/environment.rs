//! The environment as a layer: `BREVDUE__SECTION__KEY`.
//!
//! Owns which variables count and what a list looks like there. `config` would take the odd ones
//! too, but then which of two wins depends on a hash, and an index (`A[9999999999]`) is allocated.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
};

use ::config::{Environment, Value};

use super::reader::Reading;

/// How `config` marks what came from there.
pub(super) const ORIGIN: &str = "the environment";
const PREFIX: &str = "BREVDUE__";
const SEPARATOR: &str = "__";
/// No key lies deeper than `handlers.NAME.retry.max`.
const DEEPEST: usize = 6;

/// The variables that are ours, out of the process's; the second part has those that are not text.
pub(super) fn ours(
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
pub(super) fn layer(variables: &BTreeMap<String, String>, reading: &Reading<'_>) -> Environment {
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

/// The variable that sets the key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_ascii_uppercase())
}

/// A list: a JSON array of texts, or items with commas between.
pub(super) fn items(text: &str) -> Vec<Value> {
    let texts = serde_json::from_str::<Vec<String>>(text).unwrap_or_else(|_| {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    });
    let origin = ORIGIN.to_owned();
    texts.into_iter().map(|text| Value::new(Some(&origin), text)).collect()
}

fn key(name: &str) -> Option<String> {
    let prefix = name.get(..PREFIX.len())?;
    let rest = name.get(PREFIX.len()..)?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| rest.to_ascii_lowercase())
}

fn is_path(key: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let parts = || key.split(SEPARATOR);
    parts().count() <= DEEPEST && parts().all(|part| !part.is_empty() && part.chars().all(legal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &str) -> Vec<String> {
        items(list).into_iter().map(|item| item.into_string().unwrap()).collect()
    }

    #[test]
    fn a_list_is_written_with_commas_or_as_json() {
        assert_eq!(texts("a, b,,c"), ["a", "b", "c"]);
        assert_eq!(texts("[::]:8443,127.0.0.1:1"), ["[::]:8443", "127.0.0.1:1"]);
        assert_eq!(texts(r#"["/bin/sh", "-c", "a,b"]"#), ["/bin/sh", "-c", "a,b"]);
        assert!(texts("").is_empty());
    }

    #[test]
    fn a_key_names_its_variable() {
        assert_eq!(variable("server.max_body"), "BREVDUE__SERVER__MAX_BODY");
        assert_eq!(key("BREVDUE__SERVER__MAX_BODY").unwrap(), "server__max_body");
        assert_eq!(key("BREVDUE_CONFIG"), None);
        assert_eq!(key("PATH"), None);
    }

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
