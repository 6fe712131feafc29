//! What SIGHUP can read anew, and from which files.

use std::{path::PathBuf, sync::Arc};

use crate::config::{
    Config, KeyName,
    files::{NamedFile, Role},
};

/// Puts what was read in force.
pub(super) type PutInForce<'a> = Box<dyn FnOnce() + 'a>;

/// Something that is read from files.
pub(super) trait Reloadable: Send + Sync {
    /// Reads them again. What was read before stays until what was read now is put in force.
    fn read_anew(&self) -> anyhow::Result<PutInForce<'_>>;
}

/// A file, and the key that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) path: PathBuf,
}

/// What is read together.
pub(super) struct Part {
    /// For people.
    pub(super) what: String,
    pub(super) files: Vec<Named>,
    pub(super) of: Arc<dyn Reloadable>,
}

/// The files that this key names, or the keys below it.
pub(super) fn files_below(config: &Config, key: &str) -> Vec<Named> {
    let below = |named: &&NamedFile| {
        named.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    config.files.iter().filter(below).flat_map(read).collect()
}

/// Those of them that are read anew, each with its own key.
fn read(NamedFile { key, role }: &NamedFile) -> Vec<Named> {
    let below = |last: &str, path: PathBuf| Named { key: format!("{key}.{last}"), path };
    match role {
        Role::Certificate { tls, .. } => vec![
            below("certificate_file", tls.certificate_file.clone()),
            below("key_file", tls.key_file.path().to_owned()),
        ],
        Role::Client(file, name) => {
            let own = below("key_file", file.path().to_owned());
            let certificate = match name {
                KeyName::Certificate(path) => Some(below("certificate_file", path.clone())),
                KeyName::Id(_) | KeyName::OfKey => None,
            };
            std::iter::once(own).chain(certificate).collect()
        }
        Role::GatewayKey(file) | Role::Codes(file) | Role::Bearer(file) | Role::Signing(file) => {
            vec![Named { key: key.clone(), path: file.path().to_owned() }]
        }
        Role::DataDir(_)
        | Role::Socket(_)
        | Role::Authorities(_)
        | Role::Program(_)
        | Role::Output(_)
        | Role::Remote => Vec::new(),
    }
}
