//! What is wrong with a configuration, for people. Owns how it is told.

use std::{fmt, path::PathBuf};

use super::{files::NamedFile, origins::Origins};
use crate::{files::operator_file::OperatorFileError, log_lines::printable::printable};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, like `handlers.arkiv.retry.max`, or a variable of the environment.
    pub key: String,
    /// What is wrong with it and what would be right; never a secret, never a subject.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", printable(&self.key), printable(&self.message))
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "there is no configuration file {}: put it there, or name another with --config (a relative path begins at the \
         working directory)",
        shown(.0)
    )]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] OperatorFileError),
    /// It is not TOML.
    #[error("{}: {message}", shown(.path))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// With line and column, without the line itself.
        message: String,
    },
    /// It is TOML, but says what cannot be done. Every problem, one a line.
    #[error("{}", lines(.path, .problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
        /// The files that could be made out all the same, to be tried, too.
        files: Vec<NamedFile>,
        /// What the environment set.
        origins: Origins,
    },
}

fn shown(path: &std::path::Path) -> String {
    printable(&path.display().to_string())
}

fn lines(path: &std::path::Path, problems: &[Problem]) -> String {
    let head = match problems.len() {
        1 => format!("{} has a fault:", shown(path)),
        many => format!("{} has {many} faults:", shown(path)),
    };
    let problems = problems.iter().map(|problem| format!("  {problem}"));
    std::iter::once(head).chain(problems).collect::<Vec<_>>().join("\n")
}
