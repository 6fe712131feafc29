//! Which settings the environment set, and by which variable: to be told beside a fault, which nobody would find in the file.

use std::collections::{BTreeMap, BTreeSet};

use ::config::{Map, Value, ValueKind};

use super::read::{key_path::join, variable};

/// The variables by the keys that they set, and the tables that are there without them.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    variables: BTreeMap<String, String>,
    tables: BTreeSet<String>,
}

impl Origins {
    /// Of these variables, over the layers below.
    pub(super) fn new(variables: &BTreeMap<String, String>, below: &[&Map<String, Value>]) -> Self {
        let key = |name: &String| {
            let path = variable::path(name)?;
            let key = path.iter().fold(String::new(), |path, key| join(&path, key));
            Some((key, name.clone()))
        };
        let variables = variables.keys().filter_map(key).collect();
        let mut tables = BTreeSet::new();
        for layer in below {
            collect(layer, "", &mut tables);
        }
        Self { variables, tables }
    }

    /// The variable that a fault of this key comes from, as words for its message.
    pub fn set_by(&self, key: &str) -> Option<String> {
        if let Some(variable) = self.variables.get(key) {
            return Some(format!("set by {variable}"));
        }
        if self.tables.contains(key) {
            return None;
        }
        if let Some(variable) = self.below(key) {
            return Some(format!("set by {variable}"));
        }
        let mut above = key;
        while let Some((table, _)) = above.rsplit_once('.') {
            if self.tables.contains(table) {
                return None;
            }
            if let Some(variable) = self.below(table) {
                return Some(format!("{table} is there by {variable}"));
            }
            above = table;
        }
        None
    }

    /// The message with these words.
    pub fn with_variable(&self, key: &str, message: String) -> String {
        match self.set_by(key) {
            Some(words) => format!("{message} ({words})"),
            None => message,
        }
    }

    fn below(&self, table: &str) -> Option<&String> {
        let prefix = format!("{table}.");
        let (key, variable) = self.variables.range(prefix.clone()..).next()?;
        key.starts_with(&prefix).then_some(variable)
    }
}

fn collect(table: &Map<String, Value>, path: &str, tables: &mut BTreeSet<String>) {
    for (key, value) in table {
        if let ValueKind::Table(inner) = &value.kind {
            let path = join(path, key);
            collect(inner, &path, tables);
            tables.insert(path);
        }
    }
}
