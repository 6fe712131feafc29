//! Reading values: from the layers' merged tree, with every problem noted under its key.

pub(super) mod environment;
pub(super) mod key_path;
pub(super) mod section;
pub(super) mod setting;
pub(super) mod toml_text;
pub(super) mod variable;
mod written_secret;
