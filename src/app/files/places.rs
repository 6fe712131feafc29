//! Places that the daemon writes to and programs that it runs: are they what they must be.
//!
//! Owns the look from outside. Nothing is made or changed by it.

use std::{
    env,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
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
/// Linux looks at so much of a script for its interpreter.
const FIRST_LINE: u64 = 255;

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
    is_folder(path).or_else(|| {
        let place = nearest(path);
        let rights = Access::WRITE_OK | Access::EXEC_OK;
        let error = io::Error::from(accessat(CWD, place, rights, AtFlags::EACCESS).err()?);
        let told = format!("cannot write into {}: {error}", place.display());
        if error.kind() == io::ErrorKind::PermissionDenied {
            Some(Fault::Denied(format!("{told}: give it to the user who runs brevdue")))
        } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Some(Fault::Wrong(format!("{told}: name another path, or mount it for writing")))
        } else {
            // Not every system can say; writing will show.
            None
        }
    })
}

/// What keeps this path from being a folder.
fn is_folder(path: &Path) -> Option<Fault> {
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
fn nearest(path: &Path) -> &Path {
    let mut places = path.ancestors();
    places.find(|place| place.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

/// A file that is appended to; its folder may come later.
pub(super) fn output(path: &Path) -> Option<Fault> {
    let Ok(found) = path.metadata() else {
        return is_folder(path.parent().unwrap_or(Path::new("/")));
    };
    let shown = path.display();
    if found.is_dir() {
        Some(Fault::Wrong(format!("{shown}: is a folder: name a file in it")))
    } else if found.is_file() && !is_of_the_kernel(path) {
        None
    } else {
        let why = "is no regular file, so that nothing in it is durable: name a file";
        Some(Fault::Wrong(format!("{shown}: {why}")))
    }
}

/// A program that can be run.
pub(super) fn program(path: &Path) -> Option<Fault> {
    let shown = path.display();
    let fault = match path.metadata() {
        Err(error) => format!("{error}{}", cure(&error)),
        Ok(found) if !found.is_file() => "is no file: name the program itself".to_owned(),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            "cannot be run: chmod 755".to_owned()
        }
        Ok(_) => interpreter(path)?,
    };
    Some(Fault::Wrong(format!("{shown}: {fault}")))
}

/// What is wrong with what a script begins with.
fn interpreter(path: &Path) -> Option<String> {
    let mut first = Vec::new();
    // A program that may be run but not read is none of ours to judge.
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut first).ok()?;
    if first.starts_with(b"\xef\xbb\xbf#!") {
        let words = "begins with a byte-order mark, so that its #! is not seen: save it without";
        return Some(words.to_owned());
    }
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?;
    if line.ends_with('\r') {
        let words = "has the line ends of Windows, so that its interpreter is not found: save it with \
                     those of Unix (dos2unix)";
        return Some(words.to_owned());
    }
    let named = PathBuf::from(line.split_whitespace().next()?);
    let error = named.metadata().err()?;
    Some(format!(
        "its interpreter {} is missing ({error}): install it, or correct #!",
        named.display()
    ))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(output(&folder.path().join("later/events")), None);
    }

    #[test]
    fn a_program_can_be_run_and_its_interpreter_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        wrong(program(&path), "No such file");
        wrong(program(folder.path()), "is no file");
        for (text, words) in [
            ("#!/bin/sh\r\nexit 0\r\n", "line ends of Windows"),
            ("\u{feff}#!/bin/sh\n", "byte-order mark"),
            ("#!/no/such/interpreter -x\n", "/no/such/interpreter is missing"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            wrong(program(&path), words);
        }
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert_eq!(program(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        wrong(program(&path), "cannot be run");
    }
}
