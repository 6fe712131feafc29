//! Replays the fuzz corpus: what fuzzing once found, or began with, stays decided.

#[path = "fuzz/decoding.rs"]
mod decoding;

use std::{fs, path::Path};

/// Says whether it accepts its input.
type Target = fn(&[u8]) -> bool;

/// Runs `target` over its corpus. Files named `good-…` must be accepted, `bad-…` refused; others
/// must only hold what always holds.
fn replay(name: &str, target: Target) -> std::io::Result<()> {
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

#[test]
fn the_values_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("value", decoding::value)
}

#[test]
fn the_frames_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("frame", decoding::frame)
}

#[test]
fn the_high_water_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("mark", decoding::mark)
}

#[test]
fn the_log_corpus_is_decided_as_before() -> std::io::Result<()> {
    replay("wal", decoding::wal)
}

/// Changes to what is in the corpus, always the same ones: what always holds must hold of them.
#[test]
fn what_is_near_the_corpus_holds_what_always_holds() -> std::io::Result<()> {
    let targets: [(&str, Target); 6] = [
        ("json", decoding::json),
        ("binary", decoding::binary),
        ("value", decoding::value),
        ("frame", decoding::frame),
        ("mark", decoding::mark),
        ("wal", decoding::wal),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        for (seed, path) in (1..).zip(paths) {
            let mut chance = fastrand::Rng::with_seed(seed);
            let whole = fs::read(path)?;
            for _ in 0..300 {
                let mut bytes = whole.clone();
                for _ in 0..chance.usize(1..4) {
                    mutate(&mut bytes, &mut chance);
                }
                target(&bytes);
            }
        }
    }
    Ok(())
}

fn mutate(bytes: &mut Vec<u8>, chance: &mut fastrand::Rng) {
    let at = chance.usize(0..=bytes.len());
    match chance.u8(0..4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, chance.u8(..)),
        2 => bytes.extend_from_within(at..),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                let any = chance.u8(..);
                *byte = *chance.choice(&[0, 1, 0x7f, 0x80, 0xff, any]).unwrap_or(&any);
            }
        }
    }
}
