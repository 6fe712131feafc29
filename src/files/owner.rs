//! Whose a file is that is written into a folder of another user's: the folder's owner's.
//!
//! Owns that what root writes into the data directory by a command can be read by the service. Who is not
//! root has no such choice, and nothing is done.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

/// Gives a file or folder that we have made to the owner of `folder`.
pub fn give_to_owner_of(folder: &Path, made: &File) -> io::Result<()> {
    match other_owner(&folder.metadata()?, &made.metadata()?) {
        Some((user, group)) => fchown(made, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Whose it is to be, if it is another's and we may give it.
fn other_owner(model: &Metadata, found: &Metadata) -> Option<(u32, u32)> {
    let wanted = (model.uid(), model.gid());
    let given = (found.uid(), found.gid()) == wanted;
    (!given && rustix::process::geteuid().is_root()).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only root can see the difference; for others there is none to see.
    #[test]
    fn what_is_made_in_a_folder_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(12_345), Some(23_456)).unwrap();
        }
        let made = File::create(folder.path().join("made")).unwrap();
        give_to_owner_of(folder.path(), &made).unwrap();
        let (model, found) = (folder.path().metadata().unwrap(), made.metadata().unwrap());
        assert_eq!((found.uid(), found.gid()), (model.uid(), model.gid()));
    }
}
