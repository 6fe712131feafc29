//! A reader over the merged tree that collects every problem with its key's path.
//!
//! Owns the walk: which keys were asked for, which nobody asked for, and what stands nearest to
//! them. What a value means is `setting`'s and the tables'. A `Reported` can be had only by noting a
//! problem, so a part that could not be read has always been told.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr,
};

use ::config::{Value, ValueKind};

use super::{
    key_path::join,
    setting::{EMPTY, Raw, Setting, one_line},
    written_secret,
};
use crate::{
    config::{
        error::Problem,
        files::{NamedFile, Role},
        origins::Origins,
    },
    secret::SecretFile,
};

/// One reading of a configuration.
pub(in crate::config) struct Reading<'a> {
    base: &'a Path,
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Vec<NamedFile>>,
    asked: RefCell<BTreeSet<String>>,
    origins: RefCell<Origins>,
}

/// What to say of a key that is near to none.
pub(in crate::config) const NOT_KNOWN: &str =
    "is not known here: take it out, or put it into the table that it belongs to";

/// The end of the keys that name files which others write.
const NAMES_A_FILE: &str = "_file";
const EMPTY_NEEDED: &str = "is empty: name the file, it is needed";

/// Proof that the problem was noted.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Reported(());

/// One table.
pub(in crate::config) struct Section<'a> {
    path: String,
    /// The path with `*` for names that the operator gave.
    shape: String,
    values: BTreeMap<String, Value>,
    known: BTreeSet<&'static str>,
    reading: &'a Reading<'a>,
}

impl<'a> Reading<'a> {
    /// Relative paths are relative to `base`.
    pub(in crate::config) fn new(base: &'a Path) -> Self {
        let (problems, files, asked, origins) = <_>::default();
        Self { base, problems, files, asked, origins }
    }

    /// Problems that are noted from now on name the variable that they come from.
    pub(in crate::config) fn know(&self, origins: Origins) {
        self.origins.replace(origins);
    }

    /// What the environment set.
    pub(in crate::config) fn origins(&self) -> Origins {
        self.origins.take()
    }

    /// Notes a problem.
    pub(in crate::config) fn note(&self, key: &str, message: impl Into<String>) -> Reported {
        let message = self.origins.borrow().with_variable(key, message.into());
        self.problems.borrow_mut().push(Problem { key: key.to_owned(), message });
        Reported(())
    }

    /// Every problem, in the order found.
    pub(in crate::config) fn problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    /// Every file that is named, in the order found.
    pub(in crate::config) fn files(&self) -> Vec<NamedFile> {
        self.files.take()
    }

    /// Every key that was asked for, with `*` for given names.
    #[cfg(test)]
    pub(in crate::config) fn asked(&self) -> BTreeSet<String> {
        self.asked.take()
    }

    /// The whole tree.
    pub(in crate::config) fn root(
        &'a self,
        values: impl IntoIterator<Item = (String, Value)>,
    ) -> Section<'a> {
        self.section(String::new(), String::new(), values)
    }

    fn section(
        &'a self,
        path: String,
        shape: String,
        values: impl IntoIterator<Item = (String, Value)>,
    ) -> Section<'a> {
        let values = values.into_iter().collect();
        Section { path, shape, values, known: BTreeSet::new(), reading: self }
    }
}

impl<'a> Section<'a> {
    /// Notes a problem with one of its keys.
    pub(in crate::config) fn fault(&self, key: &str, message: impl Into<String>) -> Reported {
        self.reading.note(&join(&self.path, key), message)
    }

    /// Notes a problem with the table itself.
    pub(in crate::config) fn fault_here(&self, message: impl Into<String>) -> Reported {
        self.reading.note(&self.path, message)
    }

    /// Notes a problem with a key that was read in a table below.
    pub(in crate::config) fn fault_below(
        &self,
        path: &str,
        message: impl Into<String>,
    ) -> Reported {
        self.reading.note(path, message)
    }

    /// The value of a key, which is known from now on.
    pub(in crate::config) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.insert(key);
        self.reading.asked.borrow_mut().insert(join(&self.shape, key));
        self.values.remove(key)
    }

    /// A key that may be left out.
    pub(in crate::config) fn optional<T: Setting>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, Reported> {
        self.optional_as(key, Ok)
    }

    /// A key that may be left out, and is checked further.
    pub(in crate::config) fn optional_as<L: Setting, T>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(L) -> Result<T, String>,
    ) -> Result<Option<T>, Reported> {
        self.read_as(key, EMPTY, check)
    }

    /// The same, with what to say of a text that is empty.
    fn read_as<L: Setting, T>(
        &mut self,
        key: &'static str,
        empty: &str,
        check: impl FnOnce(L) -> Result<T, String>,
    ) -> Result<Option<T>, Reported> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let read = L::read(value).and_then(check).map(Some);
        read.map_err(|fault| self.fault(key, if fault == EMPTY { empty } else { &fault }))
    }

    /// A key that must be there.
    pub(in crate::config) fn need<T: Setting>(&mut self, key: &'static str) -> Result<T, Reported> {
        self.need_as(key, Ok)
    }

    /// A key that must be there, and is checked further.
    pub(in crate::config) fn need_as<L: Setting, T>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(L) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.read_as(key, "is empty: it must be set", check)?.ok_or_else(|| self.missing(key))
    }

    /// A key that the defaults have, so that it may be left out.
    pub(in crate::config) fn defaulted_as<L: Setting, T>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(L) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.optional_as(key, check)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Reported {
        self.fault(key, "is missing: it must be set")
    }

    /// A key with a default.
    pub(in crate::config) fn or<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
    ) -> Result<T, Reported> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// One of several words.
    pub(in crate::config) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Reported> {
        self.optional_as(key, |Raw(word)| {
            let chosen = choices.iter().find(|(name, _)| *name == word);
            chosen.map(|(_, choice)| *choice).ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("must be {}", names.join(" or "))
            })
        })
    }

    /// A path, relative to the configuration file.
    pub(in crate::config) fn path(
        &mut self,
        key: &'static str,
    ) -> Result<Option<PathBuf>, Reported> {
        let base = self.reading.base;
        self.written_path(key, EMPTY, |text| plain_path(key, &text, base))
    }

    /// A path that must be there; `missing` is what to say if it is not.
    pub(in crate::config) fn need_path(
        &mut self,
        key: &'static str,
        missing: &str,
    ) -> Result<PathBuf, Reported> {
        let base = self.reading.base;
        let read = self.written_path(key, EMPTY_NEEDED, |text| plain_path(key, &text, base));
        read?.ok_or_else(|| self.fault(key, missing))
    }

    /// A file with a secret in it.
    pub(in crate::config) fn secret(
        &mut self,
        key: &'static str,
    ) -> Result<Option<SecretFile>, Reported> {
        let base = self.reading.base;
        self.written_path(key, EMPTY, |text| secret_file(&text, base))
    }

    /// A file with a secret in it that must be there; `missing` is what to say if it is not.
    pub(in crate::config) fn need_secret(
        &mut self,
        key: &'static str,
        missing: &str,
    ) -> Result<SecretFile, Reported> {
        let base = self.reading.base;
        let read = self.written_path(key, EMPTY_NEEDED, |text| secret_file(&text, base));
        read?.ok_or_else(|| self.fault(key, missing))
    }

    /// What stands in place of a path may be the file's content, which is not for others to see.
    fn written_path<T>(
        &mut self,
        key: &'static str,
        empty: &str,
        resolve: impl FnOnce(String) -> Result<T, String>,
    ) -> Result<Option<T>, Reported> {
        let base = self.reading.base;
        self.read_as(key, empty, |Raw(text)| {
            if key.ends_with(NAMES_A_FILE) && written_secret::is_likely(&text, base) {
                return Err(written_secret::FAULT.to_owned());
            }
            resolve(one_line(text)?)
        })
    }

    /// Notes a file that one of its keys names.
    pub(in crate::config) fn names(&self, key: &str, role: Role) {
        self.reading.files.borrow_mut().push(NamedFile { key: join(&self.path, key), role });
    }

    /// Notes files that this table names.
    pub(in crate::config) fn names_here(&self, role: Role) {
        self.reading.files.borrow_mut().push(NamedFile { key: self.path.clone(), role });
    }

    /// What relative paths are relative to.
    pub(in crate::config) fn base(&self) -> &'a Path {
        self.reading.base
    }

    /// A table in it.
    pub(in crate::config) fn section(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Section<'a>>, Reported> {
        let Some(value) = self.take(key) else { return Ok(None) };
        self.below(key, key, value).map(Some)
    }

    /// A table in it; one that is left out is read as an empty one.
    pub(in crate::config) fn section_or_empty(
        &mut self,
        key: &'static str,
    ) -> Result<Section<'a>, Reported> {
        let empty = Value::new(None, ::config::Map::<String, Value>::new());
        let value = self.take(key).unwrap_or(empty);
        self.below(key, key, value)
    }

    /// The same, when the value was taken already.
    pub(in crate::config) fn below(
        &self,
        key: &str,
        shape: &str,
        value: Value,
    ) -> Result<Section<'a>, Reported> {
        let ValueKind::Table(values) = value.kind else {
            return Err(self.fault(key, "must be a table"));
        };
        let (path, shape) = (join(&self.path, key), join(&self.shape, shape));
        Ok(self.reading.section(path, shape, values))
    }

    /// The tables below a key by the names that the operator gave them. Names that are none are
    /// reported, and their tables are left out.
    pub(in crate::config) fn named<N>(&mut self, key: &'static str) -> Vec<(N, Section<'a>)>
    where
        N: FromStr<Err: ToString>,
    {
        let Ok(Some(mut all)) = self.section(key) else { return Vec::new() };
        let values = std::mem::take(&mut all.values);
        let read = |(name, value): (String, Value)| {
            let parsed = name.parse().map_err(|fault: N::Err| all.fault(&name, fault.to_string()));
            let section = all.below(&name, "*", value);
            Some((parsed.ok()?, section.ok()?))
        };
        values.into_iter().filter_map(read).collect()
    }

    /// What is left of a table whose keys are free.
    pub(in crate::config) fn rest(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.values).into_iter().collect()
    }

    /// Keys that this version knows and refuses, with the reason.
    pub(in crate::config) fn refuse(&mut self, refused: &[(&str, &str)]) -> Option<Reported> {
        let mut reported = None;
        for (key, reason) in refused {
            if self.values.remove(*key).is_some() {
                reported = Some(self.fault(key, *reason));
            }
        }
        reported
    }

    /// The end of it: keys that nobody asked for are reported.
    pub(in crate::config) fn finish(self) {
        for (key, value) in &self.values {
            self.unknown(key);
            self.secrets_in(&join(&self.path, key), value);
        }
    }

    fn unknown(&self, key: &str) {
        if let Some(message) = secret_message(key) {
            self.fault(key, message);
        } else if let Some(nearest) = nearest(key, self.known.iter().copied()) {
            self.fault(key, format!("is not known; did you mean {nearest}?"));
        } else {
            self.fault(key, NOT_KNOWN);
        }
    }

    fn secrets_in(&self, path: &str, value: &Value) {
        let ValueKind::Table(values) = &value.kind else { return };
        for (key, value) in values {
            let path = join(path, key);
            if let Some(message) = secret_message(key) {
                self.reading.note(&path, message);
            }
            self.secrets_in(&path, value);
        }
    }
}

/// systemd's credentials are taken where secrets are.
fn plain_path(key: &str, text: &str, base: &Path) -> Result<PathBuf, String> {
    if key.ends_with(NAMES_A_FILE) && text.starts_with("credential:") {
        return Err(
            "takes no credential, for it is no secret: name the file by its path".to_owned()
        );
    }
    Ok(base.join(text))
}

fn secret_file(text: &str, base: &Path) -> Result<SecretFile, String> {
    SecretFile::resolve(text, base).map_err(|fault| fault.to_string())
}

/// What to say of a key that seems to hold a secret itself.
pub(in crate::config) fn secret_message(key: &str) -> Option<String> {
    const WHOLE: [&str; 9] = [
        "secret",
        "password",
        "passphrase",
        "passwd",
        "token",
        "bearer",
        "api_key",
        "apikey",
        "private_key",
    ];
    const ENDS: [&str; 5] = ["_secret", "_password", "_token", "_api_key", "_private_key"];
    let lower = key.to_ascii_lowercase().replace('-', "_");
    let secret = WHOLE.contains(&lower.as_str()) || ENDS.iter().any(|end| lower.ends_with(end));
    secret.then(|| {
        "a secret is never written here; put it in a file and name the file in a …_file key".into()
    })
}

/// The known word that was probably meant.
pub(in crate::config) fn nearest<'k>(
    word: &str,
    known: impl Iterator<Item = &'k str>,
) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distances = known.map(|known| (distance(&word, &known.replace('-', "_")), known));
    let (distance, nearest) = distances.min()?;
    (distance <= 1 + word.len() / 4).then_some(nearest)
}

/// Insertions, deletions and replacements from one to the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, left) in one.chars().enumerate() {
        let mut last = index + 1;
        let mut next = vec![last];
        for (right, pair) in other.chars().zip(row.windows(2)) {
            if let [diagonal, above] = pair {
                let replaced = diagonal + usize::from(left != right);
                last = replaced.min(above + 1).min(last + 1);
                next.push(last);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_but_no_far_one() {
        let known = ["max_body", "max_connections", "listen"];
        for (word, expected) in [
            ("max_bdy", Some("max_body")),
            ("Max-Body", Some("max_body")),
            ("lisen", Some("listen")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }

    #[test]
    fn the_distance_counts_single_changes() {
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("å", "a", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
