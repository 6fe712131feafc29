//! Finds circles among files: files that use each other, straight or by way of others.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::imports::Arrows;

/// Every circle, as the files in it. A file is in at most one: two circles that share a file are one.
pub(crate) fn circles(arrows: &Arrows) -> Vec<BTreeSet<&Path>> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        arrows.keys().map(|file| (file.as_path(), reached(file, arrows))).collect();
    let mut found: Vec<BTreeSet<&Path>> = Vec::new();
    for (file, others) in &reached {
        let back = |other: &&&Path| reached.get(**other).is_some_and(|there| there.contains(file));
        let circle: BTreeSet<&Path> = others.iter().filter(back).copied().collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

/// Every file that `file` uses, straight or by way of others.
fn reached<'a>(file: &Path, arrows: &'a Arrows) -> BTreeSet<&'a Path> {
    let straight = |file: &Path| arrows.get(file).into_iter().flatten().map(PathBuf::as_path);
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Path> = straight(file).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(straight(next));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::arrows;

    #[test]
    fn files_that_use_each_other_are_a_circle_and_those_beside_it_are_not() {
        let files = [
            ("top.rs", "use crate::one::One;"),
            ("one.rs", "use crate::two::Two; pub struct One;"),
            ("two.rs", "pub struct Two; fn f() -> crate::three::Three { todo!() }"),
            (
                "three.rs",
                "pub struct Three; use super::one; fn g(_: one::One, _: crate::leaf::Leaf) {}",
            ),
            ("leaf.rs", "pub struct Leaf;"),
        ]
        .map(|(file, text)| (PathBuf::from(file), text.to_owned()));
        let arrows = arrows(&files);
        let expected: BTreeSet<_> = ["one.rs", "three.rs", "two.rs"].map(Path::new).into();
        assert_eq!(circles(&arrows), [expected]);
    }
}
