//! The whole of it: files, layers, and that every problem is told.

use std::{collections::BTreeMap, path::Path};

use super::{load::ConfigError, *};

fn from(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new("/etc/brevdue"), &BTreeMap::new())
}

#[test]
fn the_files_that_are_shipped_load() {
    for text in
        [include_str!("../../config/brevdue.toml"), include_str!("../../config/minimal.toml")]
    {
        if let Err(error) = from(text) {
            panic!("{error}");
        }
    }
}
