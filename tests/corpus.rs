//! Replays the fuzz corpus: what fuzzing once found, or began with, stays decided.

// The lints that let tests panic know a test by this attribute.
#[cfg(test)]
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use targets::Target;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Runs `target` over its corpus. Files named `good-…` must be accepted, `bad-…` refused; others
/// must only hold what always holds.
fn replay(name: &str, target: Target) -> std::io::Result<()> {
    let folder = corpus().join(name);
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
    assert!(good >= 3 && bad >= 3, "{name}: only {good} good and {bad} bad");
    Ok(())
}

#[test]
fn the_corpus_is_decided_as_before() -> std::io::Result<()> {
    targets::ALL.iter().try_for_each(|(name, target)| replay(name, *target))
}

#[test]
fn every_folder_of_the_corpus_has_its_target() -> std::io::Result<()> {
    let folders: BTreeSet<_> = fs::read_dir(corpus())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    assert_eq!(folders, targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect());
    Ok(())
}

/// Changes to what is in the corpus, always the same ones: what always holds must hold of them.
#[test]
fn what_is_near_the_corpus_holds_what_always_holds() -> std::io::Result<()> {
    for (name, target) in targets::ALL {
        let folder = corpus().join(name);
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
