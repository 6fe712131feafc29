//! The path of a key, as faults tell it.

/// A key's path, as TOML would write it.
pub(in crate::config) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-*".contains(c);
    let key = if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{:?}", key.chars().take(80).collect::<String>())
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
