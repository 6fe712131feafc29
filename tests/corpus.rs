//! Replays the fuzz corpus: what fuzzing once found, or began with, stays decided.

#[path = "fuzz/decoding.rs"]
mod decoding;

use std::{fs, path::Path};

/// Runs `target` over its corpus. Files named `good-…` must be accepted, `bad-…` refused; others
/// must only hold what always holds.
fn replay(name: &str, target: fn(&[u8]) -> bool) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let accepted = target(&fs::read(&path)?);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with("good-") {
            assert!(accepted, "{file} was refused");
            good += 1;
        } else if file.starts_with("bad-") {
            assert!(!accepted, "{file} was accepted");
            bad += 1;
        }
    }
    assert!(good >= 5 && bad >= 5, "{name}: only {good} good and {bad} bad");
    Ok(())
}

#[test]
fn the_json_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("json", decoding::json)
}

#[test]
fn the_binary_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("binary", decoding::binary)
}
