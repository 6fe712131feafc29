//! Programs that handlers run: can the system run them.
//!
//! Owns the look at the file's mode and first bytes. Nothing is run by it.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::places::Fault;
use crate::files::operator_file::cure;

/// Linux looks at so much of a file to see how it is run.
const FIRST_LINE: u64 = 255;
/// Formats that the operator has made known to the kernel, one a file.
const MORE_FORMATS: &str = "/proc/sys/fs/binfmt_misc";
/// More of them are not looked at.
const MOST_FORMATS: usize = 100;

/// A program that can be run.
pub(super) fn program(path: &Path) -> Option<Fault> {
    let shown = path.display();
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) => return Some(Fault::Wrong(format!("{shown}: {error}{}", cure(&error)))),
    };
    if let Some(fault) = mode(&found) {
        return Some(Fault::Wrong(format!("{shown}: {fault}")));
    }
    let rights = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    if let Some(error) = rights.err().map(io::Error::from)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let cure = "let the user who runs brevdue run it (chown or chgrp, then chmod 750)";
        return Some(Fault::Denied(format!("{shown}: cannot be run: {error}: {cure}")));
    }
    let mut first = Vec::new();
    // A program that may be run but not read is none of ours to judge.
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut first).ok()?;
    let fault = format(path, &first)?;
    Some(Fault::Wrong(format!("{shown}: {fault}")))
}

fn mode(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        Some("is no file: name the program itself")
    } else if !runs(found) {
        Some("cannot be run: chmod 755")
    } else {
        None
    }
}

fn runs(found: &Metadata) -> bool {
    found.permissions().mode() & 0o111 != 0
}

/// What is wrong with what a program begins with.
fn format(path: &Path, first: &[u8]) -> Option<String> {
    let words = if first.is_empty() {
        "is empty: put the program into it"
    } else if first.starts_with(b"#!") {
        return interpreter(first);
    } else if first.starts_with(b"\xef\xbb\xbf#!") {
        "begins with a byte-order mark, so that its #! is not seen: save it without"
    } else if is_known_to_the_kernel(path, first) {
        return None;
    } else if first.starts_with(b"\x7fELF") {
        return elf(first).map(str::to_owned);
    } else {
        "is no program of this system's, and no script that begins with #!: name the program itself, or \
         begin the script with #! and its interpreter (#!/bin/sh)"
    };
    Some(words.to_owned())
}

/// What is wrong with what a script begins with.
fn interpreter(first: &[u8]) -> Option<String> {
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?;
    if line.ends_with('\r') {
        let words = "has the line ends of Windows, so that its interpreter is not found: save it with \
                     those of Unix (dos2unix)";
        return Some(words.to_owned());
    }
    let Some(named) = line.split_whitespace().next().map(PathBuf::from) else {
        return Some(
            "names no interpreter after #!: write #!/bin/sh, or the one it needs".to_owned(),
        );
    };
    let shown = named.display();
    let (what, cure) = match named.metadata() {
        Err(error) => (format!("is missing ({error})"), "install it, or correct #!"),
        Ok(found) if !found.is_file() || !runs(&found) => {
            ("is no program".to_owned(), "correct #!, or chmod 755")
        }
        Ok(_) => return None,
    };
    Some(format!("its interpreter {shown} {what}: {cure}"))
}

/// Where the head of an ELF file says what it is (elf.h).
const ELF_CLASS: usize = 4;
const ELF_TYPE: usize = 16;
const ELF_MACHINE: usize = 18;
const LEAST_ELF: usize = 52;
/// Programs that are linked to an address, or to none.
const RUNNABLE: [[u8; 2]; 4] = [[2, 0], [3, 0], [0, 2], [0, 3]];
/// A machine, and another whose programs it runs as a rule: x86-64 and i386, aarch64 and arm.
const OLDER: [(u8, u8); 2] = [(62, 3), (183, 40)];

/// What is wrong with the head of an ELF file, compared with ours.
fn elf(head: &[u8]) -> Option<&'static str> {
    let mut ours = [0; LEAST_ELF];
    File::open("/proc/self/exe").ok()?.read_exact(&mut ours).ok()?;
    if head.len() < LEAST_ELF {
        return Some("is cut off: copy it anew");
    }
    let is_older = |(machine, older)| {
        let machines = (ours.get(ELF_MACHINE).copied(), head.get(ELF_MACHINE).copied());
        machines == (Some(machine), Some(older))
    };
    // Class and order of bytes, then the machine.
    let same = [ELF_CLASS..ELF_CLASS + 2, ELF_MACHINE..ELF_MACHINE + 2]
        .into_iter()
        .all(|part| head.get(part.clone()) == ours.get(part));
    if !same && !OLDER.into_iter().any(is_older) {
        return Some("is a program of another machine's: get the one for this machine");
    }
    let runs = RUNNABLE.iter().any(|kind| head.get(ELF_TYPE..ELF_MACHINE) == Some(&kind[..]));
    (!runs).then_some("is compiled but not linked: name the program itself")
}

/// Whether the kernel was told how such files are run (`binfmt_misc`): Wine, a Java runtime, an emulator.
fn is_known_to_the_kernel(path: &Path, first: &[u8]) -> bool {
    let entries = fs::read_dir(MORE_FORMATS).into_iter().flatten().flatten().take(MOST_FORMATS);
    let told = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    told.into_iter().any(|entry| recognizes(&entry, path, first))
}

/// One entry of the kernel's.
fn recognizes(entry: &str, path: &Path, first: &[u8]) -> bool {
    let value = |key: &str| {
        entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::trim))
    };
    if entry.lines().next() != Some("enabled") {
        return false;
    }
    if let Some(extension) = value("extension") {
        return path.as_os_str().as_bytes().ends_with(extension.as_bytes());
    }
    let Some(magic) = value("magic").and_then(bytes) else { return false };
    let mask = value("mask").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let offset = value("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let there = first.get(offset..).unwrap_or_default();
    let fits = |((magic, mask), there): ((&u8, &u8), &u8)| magic & mask == there & mask;
    there.len() >= magic.len() && magic.iter().zip(&mask).zip(there).all(fits)
}

/// Digits in pairs.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(fault: Option<Fault>, words: &str) {
        let Some(Fault::Wrong(told)) = fault else { panic!("{fault:?}") };
        assert!(told.contains(words), "{told}");
    }

    fn write(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
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
            ("#!/etc\n", "/etc is no program"),
            ("#!\nexit 0\n", "names no interpreter"),
            ("", "is empty"),
            ("exit 0\n", "begin the script with #!"),
            ("-----BEGIN CERTIFICATE-----\n", "no script that begins with #!"),
        ] {
            write(&path, text.as_bytes());
            wrong(program(&path), words);
        }
        write(&path, b"#!/bin/sh\n");
        assert_eq!(program(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        wrong(program(&path), "cannot be run");
    }

    #[test]
    fn a_compiled_program_is_one_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let mut ours = [0; 64];
        File::open("/proc/self/exe").unwrap().read_exact(&mut ours).unwrap();
        write(&path, &ours);
        assert_eq!(program(&path), None);
        assert_eq!(program(Path::new("/bin/sh")), None);
        write(&path, &ours[..20]);
        wrong(program(&path), "cut off");
        let with = |at: usize, value: u8| {
            let mut head = ours;
            head[at] = value;
            head
        };
        // No machine of today has this number.
        assert!(elf(&with(ELF_MACHINE, 200)).unwrap().contains("another machine"));
        assert!(elf(&with(ELF_TYPE, 1)).unwrap().contains("not linked"));
    }

    #[test]
    fn what_the_kernel_was_told_to_run_is_left_to_it() {
        let jar = "enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n";
        let masked = "enabled\ninterpreter /x\nflags: \noffset 1\nmagic 4b03\nmask ff00\n";
        let named = "enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n";
        let seen = |entry: &str, first: &[u8]| recognizes(entry, Path::new("/opt/a.exe"), first);
        assert!(seen(jar, b"PK\x03\x04..") && seen(masked, b"PKxx") && seen(named, b"MZ"));
        assert!(!seen(jar, b"PK\x03") && !seen(masked, b"PJ\x03") && !seen("enabled\n", b"MZ"));
        assert!(!recognizes(named, Path::new("/opt/a"), b"MZ"));
        assert!(!seen(&jar.replace("enabled", "disabled"), b"PK\x03\x04"));
    }
}
