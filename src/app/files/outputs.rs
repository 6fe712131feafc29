//! Files that handlers append to: none may be a file that brevdue reads or keeps, or another handler's.
//!
//! Owns the comparison: by the path without its links, and, where a file is there, by the file itself, for it can have
//! several names.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::config::{
    KeyName,
    error::Problem,
    files::{NamedFile, Role},
};

/// A place, as far as it can be told from others.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl Place {
    fn of(path: &Path) -> Self {
        let file = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        Self { path: resolved(path), file: file.map(|found| (found.dev(), found.ino())) }
    }

    fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.file.is_some() && self.file == other.file)
    }
}

/// The path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    for place in path.ancestors() {
        if let (Ok(whole), Ok(rest)) = (place.canonicalize(), path.strip_prefix(place)) {
            // Joined with nothing it would end in a slash.
            return if rest.as_os_str().is_empty() { whole } else { whole.join(rest) };
        }
    }
    path.to_owned()
}

/// Every file of a handler's that is something else's, too.
pub(super) fn faults(configuration: &Path, files: &[NamedFile]) -> Vec<Problem> {
    let mut taken = vec![("the configuration itself".to_owned(), Place::of(configuration))];
    let mut directories = Vec::new();
    for named in files {
        if let Role::DataDir(path) = &named.role {
            directories.push(resolved(path));
            taken
                .extend(inside(path).into_iter().map(|one| ("a file of data_dir".to_owned(), one)));
        }
        let known = read(named).into_iter();
        taken.extend(known.map(|path| (format!("the file of {}", named.key), Place::of(path))));
    }
    let mut faults = Vec::new();
    for NamedFile { key, role } in files {
        let Role::Output(path) = role else { continue };
        let place = Place::of(path);
        let other = taken.iter().find(|(_, other)| place.is(other)).map(|(what, _)| what.as_str());
        let in_data = directories.iter().any(|directory| place.path.starts_with(directory));
        let other = other.or(in_data.then_some("inside data_dir, which is the store's alone"));
        faults.extend(other.map(|what| {
            let path = path.display();
            let message = format!("{path}: is {what}: name a file that nothing else has");
            Problem { key: key.clone(), message }
        }));
        taken.push((format!("the file of {key}"), place));
    }
    faults
}

/// What a key names and is no output.
fn read(named: &NamedFile) -> Vec<&Path> {
    match &named.role {
        Role::Socket(path) | Role::Authorities(path) | Role::Program(path) => vec![path],
        Role::Certificate { tls, .. } => vec![&tls.certificate_file, tls.key_file.path()],
        Role::Client(file, KeyName::Certificate(chain)) => vec![file.path(), chain],
        Role::Client(file, KeyName::Id(_) | KeyName::OfKey)
        | Role::GatewayKey(file)
        | Role::Codes(file)
        | Role::Bearer(file)
        | Role::Signing(file) => vec![file.path()],
        Role::DataDir(_) | Role::Output(_) | Role::Remote => Vec::new(),
    }
}

/// Files of the data directory that can have another name elsewhere.
fn inside(data_dir: &Path) -> Vec<Place> {
    /// More are not looked at.
    const MOST: usize = 1000;
    let folders = [data_dir.to_owned(), data_dir.join("secrets"), data_dir.join("queue")];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries.flatten().take(MOST).map(|entry| Place::of(&entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("data/secrets")).unwrap();
        fs::write(at("data/secrets/innboks"), "x").unwrap();
        fs::write(at("brevdue.toml"), "x").unwrap();
        fs::hard_link(at("brevdue.toml"), at("hard")).unwrap();
        fs::hard_link(at("data/secrets/innboks"), at("hard-secret")).unwrap();
        std::os::unix::fs::symlink(at("brevdue.toml"), at("soft")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("linked")).unwrap();
        let output = |name: &str| NamedFile {
            key: format!("handlers.{}.path", name.replace(['/', '.'], "")),
            role: Role::Output(at(name)),
        };
        let told = |names: &[&str]| {
            let data = Role::DataDir(at("data"));
            let mut files = vec![NamedFile { key: "data_dir".to_owned(), role: data }];
            files.extend(names.iter().map(|name| output(name)));
            faults(&at("brevdue.toml"), &files)
        };
        for bad in [
            "brevdue.toml",
            "hard",
            "soft",
            "hard-secret",
            "data/altinn-state.json",
            "linked/later/events",
            "data/secrets/innboks",
        ] {
            let told = told(&[bad]);
            assert!(
                matches!(&told[..], [one] if one.key.starts_with("handlers.")),
                "{bad}: {told:?}"
            );
        }
        assert_eq!(told(&["events", "database", "later/events"]), []);
        let twice = told(&["events", "./events"]);
        assert!(
            matches!(&twice[..], [one] if one.message.contains("handlers.events.path")),
            "{twice:?}"
        );
    }
}
