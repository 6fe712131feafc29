//! Places that the daemon writes to: are they what they must be.
//!
//! Owns the look from outside. Nothing is made or changed by it.

use std::{
    env, fs, io,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::Path,
};

use rustix::fs::{Access, AtFlags, CWD, accessat, statfs};

use crate::files::operator_file::{cure, open_to_others};

/// What is wrong with a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be used by anyone.
    Wrong(String),
    /// It cannot be used by this user.
    Denied(String),
    /// It can be used.
    Odd(Vec<String>),
}

/// Made secrets that are looked at.
const MOST_SECRETS: usize = 1000;
/// A longer name, or a longer path, is taken by no file system of Linux (limits.h).
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;

/// The directory of the store, which may still have to be made.
pub(super) fn data_dir(path: &Path) -> Option<Fault> {
    let parts = ["queue", "secrets"].map(|name| path.join(name));
    let fault = folder(path).or_else(|| parts.iter().find_map(|part| folder(part)));
    fault.or_else(|| {
        let made = fs::read_dir(path.join("secrets")).into_iter().flatten().take(MOST_SECRETS);
        let open: Vec<String> =
            made.flatten().filter_map(|entry| open_to_others(&entry.path())).collect();
        let told = |seen: &String| format!("{seen}, and is a secret: chmod 600");
        (!open.is_empty()).then(|| Fault::Odd(open.iter().map(told).collect()))
    })
}

/// The admin API's socket: what is there already is replaced by it. Whether it can be made shows when it is:
/// systemd may pass one.
pub(super) fn socket(path: &Path) -> Option<Fault> {
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            let path = path.display();
            Some(Fault::Wrong(format!("{path}: is there and is no socket: name another path")))
        }
        Ok(_) | Err(_) => {
            let above = path.parent().unwrap_or(Path::new("/"));
            // Where systemd passes one, none is made.
            if env::var_os("LISTEN_FDS").is_some() { is_folder(above) } else { folder(above) }
        }
    }
}

/// A folder that is there for us to write into, or can be made.
fn folder(path: &Path) -> Option<Fault> {
    is_folder(path).or_else(|| may(nearest(path), Access::WRITE_OK | Access::EXEC_OK, "write into"))
}

/// What keeps this user from doing so.
fn may(place: &Path, rights: Access, what: &str) -> Option<Fault> {
    let error = io::Error::from(accessat(CWD, place, rights, AtFlags::EACCESS).err()?);
    let told = format!("cannot {what} {}: {error}", place.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        Some(Fault::Denied(format!("{told}: give it to the user who runs brevdue")))
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        Some(Fault::Wrong(format!("{told}: name another path, or mount it for writing")))
    } else {
        // Not every system can say; writing will show.
        None
    }
}

/// What keeps any file from having this path.
fn too_long(path: &Path) -> Option<Fault> {
    let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let longest = names.map(<[u8]>::len).max().unwrap_or_default();
    let fault = if longest > LONGEST_NAME {
        format!("has a name of {longest} bytes: take one of at most {LONGEST_NAME}")
    } else if path.as_os_str().len() > LONGEST_PATH {
        format!("is longer than {LONGEST_PATH} bytes: name a shorter path")
    } else {
        return None;
    };
    Some(Fault::Wrong(fault))
}

/// What keeps this path from being a folder.
fn is_folder(path: &Path) -> Option<Fault> {
    if let Some(fault) = too_long(path) {
        return Some(fault);
    }
    let place = nearest(path);
    let shown = place.display();
    Some(Fault::Wrong(match place.metadata() {
        Ok(found) if found.is_dir() && !is_of_the_kernel(place) => return None,
        Ok(found) if found.is_dir() => {
            format!("{shown}: is the kernel's, and no file can be made there: name another path")
        }
        Ok(_) => format!("{shown}: is no folder: name another path"),
        Err(error) => format!("cannot use {shown}: {error}{}", cure(&error)),
    }))
}

/// Whether files here are the kernel's words about itself (linux/magic.h).
fn is_of_the_kernel(folder: &Path) -> bool {
    const KERNEL: [u32; 10] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0x6265_6570, // configfs
        0x1cd1,      // devpts
        0xcafe_4a11, // bpf
    ];
    let found = statfs(folder).ok().map(|found| found.f_type);
    found.and_then(|kind| u32::try_from(kind).ok()).is_some_and(|kind| KERNEL.contains(&kind))
}

/// The path, or what is there of it.
pub(super) fn nearest(path: &Path) -> &Path {
    let mut places = path.ancestors();
    places.find(|place| place.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

/// A file that is appended to. Its folder may come later, but is missed until then.
pub(super) fn output(path: &Path) -> Option<Fault> {
    if let Some(fault) = too_long(path) {
        return Some(fault);
    }
    let shown = path.display();
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return new_output(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let cure = "give the folders above it to the user who runs brevdue";
            return Some(Fault::Denied(format!("cannot look at {shown}: {error}: {cure}")));
        }
        Err(error) => {
            let told = format!("cannot write {shown}: {error}{}", cure(&error));
            return is_folder(above(path)).or(Some(Fault::Wrong(told)));
        }
    };
    if found.is_dir() {
        Some(Fault::Wrong(format!("{shown}: is a folder: name a file in it")))
    } else if found.is_file() && !is_of_the_kernel(path) {
        may(path, Access::READ_OK | Access::WRITE_OK, "read and write").or_else(|| {
            // It is synced together with its name.
            may(above(path), Access::READ_OK | Access::EXEC_OK, "read the folder")
        })
    } else {
        let why = "is no regular file, so that nothing in it is durable: name a file";
        Some(Fault::Wrong(format!("{shown}: {why}")))
    }
}

/// One that has still to be made.
fn new_output(path: &Path) -> Option<Fault> {
    let shown = path.display();
    let last = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next();
    if matches!(last, None | Some(b"" | b"." | b"..")) {
        let told = format!("{shown}: has no file's name at its end: name a file in it");
        return Some(Fault::Wrong(told));
    }
    let folder = above(path);
    // A link to nowhere is followed when the file is made. A circle of them has another error.
    if let Ok(target) = fs::read_link(path) {
        return output(&folder.join(target));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if folder.is_dir() {
        let rights = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        return is_folder(folder).or_else(|| may(folder, rights, "write into"));
    }
    is_folder(folder).or_else(|| {
        let (folder, cure) = (folder.display(), "make it for the user who runs brevdue, or correct the path");
        Some(Fault::Odd(vec![format!(
            "{shown}: the folder {folder} is missing, and no event can be written before it is there: {cure}"
        )]))
    })
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn wrong(fault: Option<Fault>, words: &str) {
        let Some(Fault::Wrong(told)) = fault else { panic!("{fault:?}") };
        assert!(told.contains(words), "{told}");
    }

    #[test]
    fn a_folder_is_there_or_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(data_dir(&at("not/yet/there")), None);
        for path in ["/proc/brevdue", "/sys/brevdue", "/proc", "/sys/kernel"] {
            wrong(data_dir(Path::new(path)), "is the kernel's");
        }
        fs::create_dir(at("half")).unwrap();
        fs::write(at("half/queue"), "").unwrap();
        wrong(data_dir(&at("half")), "is no folder");
        fs::write(at("file"), "").unwrap();
        wrong(data_dir(&at("file")), "is no folder");
        wrong(data_dir(&at("file/in")), "is no folder");
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        wrong(data_dir(&at("link")), "No such file");
        fs::create_dir_all(at("data/secrets")).unwrap();
        fs::write(at("data/secrets/innboks"), "x").unwrap();
        fs::set_permissions(at("data/secrets/innboks"), fs::Permissions::from_mode(0o644)).unwrap();
        let told = data_dir(&at("data"));
        assert!(matches!(&told, Some(Fault::Odd(told)) if told[0].contains("0644")), "{told:?}");
    }

    #[test]
    fn only_a_socket_is_replaced_by_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        wrong(socket(&at("file")), "is no socket");
        wrong(socket(folder.path()), "is no socket");
        wrong(socket(&at("file/in")), "is no folder");
        for path in ["/proc/brevdue/admin.sock", "/sys/admin.sock"] {
            wrong(socket(Path::new(path)), "is the kernel's");
        }
        let _listening = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(socket(&at("socket")), None);
    }

    #[test]
    fn what_is_appended_to_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        wrong(output(folder.path()), "is a folder");
        wrong(output(Path::new("/dev/null")), "no regular file");
        wrong(output(Path::new("/dev/null/x")), "is no folder");
        wrong(output(Path::new("/proc/version")), "no regular file");
        wrong(output(Path::new("/proc/later/events")), "is the kernel's");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(output(&at("events")), None);
        let told = output(&at("later/events"));
        assert!(matches!(&told, Some(Fault::Odd(told)) if told[0].contains("/later is missing")));
    }

    #[test]
    fn a_name_that_no_file_can_have_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for path in ["events/", "later/", "later/.", "later/.."] {
            wrong(output(&at(path)), "name a file in it");
        }
        assert_eq!(output(&at(&"e".repeat(255))), None);
        for long in [at(&"e".repeat(256)), at("later").join("e".repeat(300)).join("f")] {
            wrong(output(&long), "at most 255");
            wrong(data_dir(&long), "at most 255");
        }
        wrong(output(&at(&"e/".repeat(2100)).join("f")), "shorter path");
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, target) in [("good", "events"), ("far", "later/events"), ("round", "round")] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        assert_eq!(output(&at("good")), None);
        let told = output(&at("far"));
        assert!(matches!(&told, Some(Fault::Odd(told)) if told[0].contains("/later is missing")));
        wrong(output(&at("round")), "cannot write");
    }
}
