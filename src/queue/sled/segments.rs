//! How large the segments of sled's file are, which bounds how large an entry may be.
//!
//! A store is opened with the size that it was made with, for ever. sled notes it in a file,
//! `conf`, which it only warns of when its checksum is wrong.

use std::{fs, io, path::Path};

use super::OpenError;

/// Of a new store. For each segment that sled reads at start it clears and fills a buffer of this
/// size, and a few more are held while it writes.
pub(super) const SEGMENT_SIZE: usize = 2 * 1024 * 1024;
/// Of the first stores.
pub(super) const LARGEST: usize = 8 * 1024 * 1024;

/// The size that the database was made with. None if that is not noted: before there is one, or
/// after a power loss while the first was made.
pub(super) fn noted(database: &Path) -> Result<Option<usize>, OpenError> {
    let conf = match fs::read(database.join("conf")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        conf => conf?,
    };
    // What sled makes anew.
    if conf.len() <= 8 {
        return Ok(None);
    }
    let is = |size: &usize| conf.starts_with(format!("segment_size: {size}\n").as_bytes());
    let size = [SEGMENT_SIZE, LARGEST].into_iter().find(is);
    size.map(Some).ok_or_else(|| OpenError::Damaged("sled's file conf cannot be read".to_owned()))
}

/// The largest entry: sled moves a leaf (17 values and a few changes to them) that is larger than a
/// quarter of a segment to a file that it never syncs.
pub(super) const fn largest_entry(size: usize) -> usize {
    size / 4 / 24
}

/// There is a database, but what it was made with is not known.
pub(super) fn is_lost(database: &Path) -> Result<bool, OpenError> {
    let used = fs::metadata(database.join("db")).is_ok_and(|file| file.len() > 0);
    match noted(database) {
        Ok(None) | Err(OpenError::Damaged(_)) => Ok(used),
        Ok(Some(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_what_sled_noted_or_it_is_lost() {
        for size in [SEGMENT_SIZE, LARGEST] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            assert_eq!(noted(path).unwrap(), None);
            assert!(!is_lost(path).unwrap());
            let db = sled::Config::new().path(path).segment_size(size).open().unwrap();
            db.insert("key", "value").unwrap();
            db.flush().unwrap();
            assert_eq!(noted(path).unwrap(), Some(size));
            assert!(!is_lost(path).unwrap());
            fs::write(path.join("conf"), "").unwrap();
            assert!(is_lost(path).unwrap());
            fs::remove_file(path.join("conf")).unwrap();
            assert!(is_lost(path).unwrap());
            // What the file system says is not damage.
            fs::create_dir(path.join("conf")).unwrap();
            assert!(matches!(is_lost(path), Err(OpenError::Io(_))));
        }
    }

    #[test]
    fn a_size_that_sled_would_not_have_noted_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        for damaged in ["segment_size: 2097153\n", "segment_size: 20971520\n", "segment_siz"] {
            fs::write(directory.path().join("conf"), damaged).unwrap();
            assert!(noted(directory.path()).is_err(), "{damaged}");
        }
    }
}
