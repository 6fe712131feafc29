//! Reading the configuration: defaults, the file, the environment; and every problem at once.
//!
//! Owns the layers; what the keys mean is in `tables`.

use std::{collections::BTreeMap, env, io::ErrorKind, path::Path, time::Duration};

use ::config::{Map, Source, Value, ValueKind};

use super::{
    Config,
    error::ConfigError,
    origins::Origins,
    read::{
        environment,
        section::{NOT_KNOWN, Reading},
        toml_text,
    },
    tables,
};
use crate::files::operator_file::{self, FileFault, OperatorFileError};

/// A larger file is a mistake.
const MAX_FILE: u64 = 1024 * 1024;
/// For whoever writes the configuration into a pipe.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The first layer. Defaults below names that the operator gives are where those are read.
const DEFAULTS: &str = r#"
data_dir = "/var/lib/brevdue"
shutdown_grace = "25s"

[server]
listen = ["[::]:8443"]
trusted_proxies = []
proxy_protocol = false
max_connections = 1024
max_body = "64KiB"
max_body_total = "64MiB"
handshake_timeout = "10s"
request_timeout = "20s"

[admin]
socket = "/run/brevdue/admin.sock"

[log]
format = "auto"
level = "info"

[queue]
store = "sled"
max_bytes = "10GiB"
min_free_disk = "512MiB"
dedup_window = "90d"
dedup_max = 2_000_000
retain = "0s"
dead_letters_max = 100_000
dead_letters_bytes = "1GiB"
dead_letters_age = "365d"
"#;

impl Config {
    /// Reads the file, and over it the process's environment.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = operator_file::read_stream(path, MAX_FILE, LONGEST_WAIT).map_err(unread)?;
        let absolute = std::path::absolute(path).map_err(|error| OperatorFileError {
            path: path.to_owned(),
            fault: FileFault::Io(error),
        })?;
        let (variables, others) = environment::ours(env::vars_os());
        let reading = Reading::new(absolute.parent().unwrap_or(Path::new("/")));
        for name in others {
            reading.note(&name, "is not UTF-8 text");
        }
        build(&text, path, &variables, &reading)
    }

    /// Reads a text, with relative paths below `base`; of the environment only what is given.
    pub fn from_toml(
        text: &str,
        base: &Path,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        build(text, base, environment, &Reading::new(base))
    }
}

/// Its path is no setting's, so what is said of those does not hold of it.
fn unread(error: OperatorFileError) -> ConfigError {
    let is_missing =
        matches!(&error.fault, FileFault::Io(fault) if fault.kind() == ErrorKind::NotFound);
    if is_missing { ConfigError::Missing(error.path) } else { ConfigError::Read(error) }
}

/// The configuration of a text; `path` is for messages.
pub(super) fn build(
    text: &str,
    path: &Path,
    variables: &BTreeMap<String, String>,
    reading: &Reading<'_>,
) -> Result<Config, ConfigError> {
    let tree = merged(text, path, variables, reading)?;
    let config = tables::root::config(reading.root(tree));
    let (files, origins) = (reading.files(), reading.origins());
    match (config, reading.problems()) {
        (Ok(config), problems) if problems.is_empty() => Ok(Config { files, origins, ..config }),
        (Ok(_) | Err(_), problems) => {
            Err(ConfigError::Invalid { path: path.to_owned(), problems, files, origins })
        }
    }
}

fn merged(
    text: &str,
    path: &Path,
    variables: &BTreeMap<String, String>,
    reading: &Reading<'_>,
) -> Result<Map<String, Value>, ConfigError> {
    let syntax = |message| ConfigError::Syntax { path: path.to_owned(), message };
    let file = toml_text::tables(text).map_err(syntax)?;
    let defaults = toml_text::tables(DEFAULTS).map_err(syntax)?;
    reading.know(Origins::new(variables, &[&defaults, &file]));
    let merged = ::config::Config::builder()
        .add_source(Layer(defaults))
        .add_source(Layer(plain(file, reading)))
        .add_source(Layer(environment::layer(variables, reading)))
        .build();
    let tree = merged.map_err(|fault| syntax(fault.to_string()))?.cache.kind;
    Ok(if let ValueKind::Table(tree) = tree { tree } else { Map::new() })
}

/// `config` takes the first keys for paths with indexes (`"a[0].b"`): those that are not plain
/// cannot be known anyway.
fn plain(mut file: Map<String, Value>, reading: &Reading<'_>) -> Map<String, Value> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut odd: Vec<String> =
        file.keys().filter(|key| key.is_empty() || !key.chars().all(plain)).cloned().collect();
    odd.sort();
    for key in odd {
        file.remove(&key);
        let shown: String = key.chars().take(80).collect();
        reading.note(&format!("{shown:?}"), NOT_KNOWN);
    }
    file
}

/// Tables as a layer.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.clone())
    }
}
