//! Whether a file can be believed: one that is being written has only a part of what it will have, and a part of a
//! secret looks like a secret.
//!
//! Owns the decision: what two looks in a row see alike is believed. No clock is asked: that of a file can be another
//! machine's.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use crate::{files::operator_file, secret::Digest};

/// Between two looks.
pub(super) const BETWEEN: Duration = Duration::from_secs(1);
/// A file that changes for longer than this is left alone.
const PATIENCE: Duration = Duration::from_secs(10);
/// No file that is read anew is larger.
const LARGEST: u64 = 1024 * 1024;

/// What is seen of a file; all of a file that is missing is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    stamp: Option<Stamp>,
    content: Option<Digest>,
}

/// What a write changes beside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// Looks at a file now.
    pub(super) fn at(path: &Path) -> Self {
        let stamp = fs::metadata(path).ok().map(|found| Stamp {
            file: (found.dev(), found.ino()),
            length: found.len(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        });
        let content = operator_file::read(path, LARGEST).ok().map(|text| Digest::of(&text));
        Self { stamp, content }
    }
}

/// What to do with files after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Read them.
    Believe,
    /// Look again later.
    LookAgain,
    /// Keep what was read before; the file with this number is still being written.
    Leave(usize),
}

/// Decides on files that go together; `before` is of the last look, and empty at the first.
pub(super) fn verdict(before: &[Look], seen: &[Look], waited: Duration) -> Verdict {
    let changed = |(number, look): (usize, &Look)| before.get(number) != Some(look);
    match seen.iter().enumerate().position(changed) {
        None => Verdict::Believe,
        Some(_) if waited < PATIENCE => Verdict::LookAgain,
        Some(number) => Verdict::Leave(number),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_what_was_seen_alike_twice_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let look = |text: &str| {
            fs::write(&path, text).unwrap();
            Look::at(&path)
        };
        let [missing, part, whole] = [Look::at(&path), look("a-sec"), look("a-secret")];
        let again = Look::at(&path);
        let soon = Duration::ZERO;
        for (before, seen, waited, expected) in [
            (vec![], vec![], soon, Verdict::Believe),
            (vec![], vec![whole.clone()], soon, Verdict::LookAgain),
            (vec![missing.clone()], vec![part.clone()], soon, Verdict::LookAgain),
            (vec![part.clone()], vec![whole.clone()], soon, Verdict::LookAgain),
            (vec![whole.clone()], vec![missing.clone()], soon, Verdict::LookAgain),
            (vec![whole.clone()], vec![again.clone()], soon, Verdict::Believe),
            (vec![whole.clone()], vec![again.clone()], PATIENCE * 2, Verdict::Believe),
            (vec![missing.clone()], vec![missing.clone()], soon, Verdict::Believe),
            (vec![part.clone()], vec![whole.clone()], PATIENCE, Verdict::Leave(0)),
            (
                vec![whole.clone(), part.clone()],
                vec![again.clone(), whole.clone()],
                PATIENCE,
                Verdict::Leave(1),
            ),
            (vec![whole.clone(), part], vec![again, whole], soon, Verdict::LookAgain),
        ] {
            assert_eq!(verdict(&before, &seen, waited), expected, "{before:?} {seen:?}");
        }
    }

    #[test]
    fn a_file_with_the_same_text_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("secret"), folder.path().join("new"));
        fs::write(&path, "a-secret").unwrap();
        let before = Look::at(&path);
        fs::write(&other, "a-secret").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Look::at(&path), before);
    }

    #[test]
    fn a_file_of_which_the_system_tells_no_change_is_seen_by_its_content() {
        // Each reading of it gives another text.
        let path = Path::new("/proc/sys/kernel/random/uuid");
        File::open(path).unwrap();
        assert_ne!(Look::at(path), Look::at(path));
    }
}
