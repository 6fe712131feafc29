//! Why a command cannot be run, in the system's words, and with what the system leaves out.
//!
//! For a script whose interpreter is missing, the system says only that there is no such file, and
//! the script is there. Owns that difference; runs nothing.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// So much of a script's first line is read, as the kernel does.
const FIRST_LINE: u64 = 256;

/// The reason; `path` is the command's own PATH.
pub(super) fn cannot_run(program: &str, path: Option<&OsString>, error: &io::Error) -> String {
    let mut reason = format!("cannot be run: {error}");
    if error.kind() == io::ErrorKind::NotFound
        && let Some(interpreter) = find(program, path).and_then(|found| interpreter(&found))
    {
        reason.push_str(&missing(&interpreter));
    }
    reason
}

fn missing(interpreter: &str) -> String {
    let shown = interpreter.escape_debug();
    if interpreter.ends_with('\r') {
        return format!(
            ": the script's interpreter \"{shown}\" is missing; its first line ends in CR, so save it \
             with Unix line ends"
        );
    }
    format!(": the script's interpreter \"{shown}\" is missing")
}

/// Where a command is found, as execvp(3) looks for it.
fn find(program: &str, path: Option<&OsString>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|program| program.is_file());
    }
    let folders = env::split_paths(path?);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// The interpreter that a script's first line names, if it is not there. A CR counts as a part of its
/// name, as it does for the kernel.
fn interpreter(script: &Path) -> Option<String> {
    let mut beginning = Vec::new();
    File::open(script).ok()?.take(FIRST_LINE).read_to_end(&mut beginning).ok()?;
    let line = beginning.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let name = line.trim_matches([' ', '\t']).split([' ', '\t']).next()?;
    (!name.is_empty() && !Path::new(name).exists()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    /// The reason for a script of this text, and the same found by way of PATH.
    fn reason(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Command::new(&script).spawn().unwrap_err();
        let path = folder.path().as_os_str().to_owned();
        let named = cannot_run("script", Some(&path), &error);
        assert_eq!(cannot_run(script.to_str().unwrap(), None, &error), named);
        named
    }

    #[test]
    fn a_missing_interpreter_is_named_with_its_cr() {
        let none = "cannot be run: No such file or directory (os error 2)";
        for (text, more) in [
            (
                "#!/bin/sh\r\nexit 0\r\n",
                ": the script's interpreter \"/bin/sh\\r\" is missing; its first line ends in CR, so \
                 save it with Unix line ends",
            ),
            (
                "#! /nowhere/python -u\n",
                ": the script's interpreter \"/nowhere/python\" is missing",
            ),
            (
                "#!/nowhere/\u{1b}[2J",
                ": the script's interpreter \"/nowhere/\\u{1b}[2J\" is missing",
            ),
        ] {
            assert_eq!(reason(text), format!("{none}{more}"));
        }
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(cannot_run("/nowhere", None, &error), none);
        assert_eq!(cannot_run("nowhere", Some(&OsString::from("/bin")), &error), none);
    }

    #[test]
    fn what_is_no_program_is_told_in_the_systems_words() {
        let expected = "cannot be run: Exec format error (os error 8)";
        assert_eq!(reason("echo no first line\n"), expected);
        assert_eq!(reason("\u{7f}ELF"), expected);
    }
}
