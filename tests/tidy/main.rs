//! The house rules that no lint knows: which module may use which, no circle of files, and how large
//! files and folders may be.

#![cfg(test)]

mod circles;
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules from the ground up. A module may use only the layers under its own.
///
/// In the folders of [`CONTRACTS`] the `mod.rs` is the contract and each child an own module.
const LAYERS: &[&[&str]] = &[
    &[
        "allocator",
        "backoff",
        "clock",
        "error_chain",
        "files",
        "log_lines",
        "name",
        "network",
        "reaper",
        "systemd",
    ],
    &["secret"],
    &["crypto"],
    &["event", "http_client", "metrics", "server", "store", "supervisor"],
    &["queue"],
    &["config", "handler", "source"],
    &[
        "handler::context",
        "queue::dead_letter",
        "queue::stored",
        "source::membership",
        "source::secrets",
        "telemetry",
    ],
    &[
        "admin",
        "altinn",
        "dispatch",
        "handler::exec",
        "handler::file",
        "handler::http",
        "ingress",
        "queue::model",
        "queue::sled",
        "simulator",
        "source::altinn",
        "source::cloudevents",
    ],
    &["app", "doctor"],
    &["cli"],
    &["main", "lib"],
];
const CONTRACTS: &[&str] = &["handler", "queue", "source"];
const MAX_LINES: usize = 600;
const MAX_FILES: usize = 15;
/// Folders of `src` that are still to be taken apart.
const NOT_YET: &[&str] = &[];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable source folder") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The module of a path such as `queue::sled::writer` or `event::Event`.
fn module(path: &[&str]) -> String {
    let child = path.get(1).filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    match (path.first(), child) {
        (Some(first), Some(second))
            if CONTRACTS.contains(first) && !["self", "as"].contains(second) =>
        {
            format!("{first}::{second}")
        }
        (Some(first), _) => (*first).to_owned(),
        (None, _) => String::new(),
    }
}

/// Every path that stands after `crate::` in `text`, with groups in braces taken apart.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        tree(&text[at + "crate::".len()..], &mut Vec::new(), &mut found);
    }
    found
}

/// Reads one use tree and returns how long it was.
fn tree<'a>(text: &'a str, path: &mut Vec<&'a str>, found: &mut BTreeSet<String>) -> usize {
    let depth = path.len();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(group) = rest.strip_prefix('{') {
            at += 1 + branches(group, path, found);
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(&rest[..end]);
        at += end;
        if !text[at..].starts_with("::") {
            found.insert(module(path));
            break;
        }
        at += 2;
    }
    path.truncate(depth);
    at
}

/// Reads the trees of a group, up to and with its closing brace.
fn branches<'a>(text: &'a str, path: &mut Vec<&'a str>, found: &mut BTreeSet<String>) -> usize {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == '}' {
            return at + 1;
        }
        at += if c.is_alphanumeric() || c == '_' || c == '{' {
            tree(&text[at..], path, found)
        } else {
            c.len_utf8()
        };
    }
    at
}

fn is_test(short: &Path) -> bool {
    short.iter().any(|part| part.to_str().expect("UTF-8").contains("tests"))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

#[test]
fn modules_use_only_the_layers_under_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut faults = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a readable source file");
        let short = file.strip_prefix(&root).expect("a file under src");
        let names: Vec<&str> = short
            .iter()
            .map(|part| part.to_str().expect("UTF-8").trim_end_matches(".rs"))
            .filter(|part| *part != "mod")
            .collect();
        let module = module(&names);
        let Some(own) = layer(&module) else {
            faults.push(format!("{module}: give it a layer in tests/tidy/main.rs"));
            continue;
        };
        // Tests may use a reference model or a stand-in of a higher layer.
        if is_test(short) {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for used in uses(code) {
            if used != module && layer(&used).is_none_or(|under| under >= own) {
                faults.push(format!("{}: may not use crate::{used}", short.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_are_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let lines = |file: &PathBuf| fs::read_to_string(file).expect("a source file").lines().count();
    let long: Vec<_> = files.iter().filter(|file| lines(file) > MAX_LINES).collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");
}

#[test]
fn folders_are_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for folder in files.iter().filter_map(|file| file.parent()) {
        *folders.entry(folder).or_default() += 1;
    }
    let src = root.join("src");
    folders.retain(|folder, _| !NOT_YET.iter().any(|name| *folder == src.join(name)));
    folders.retain(|_, files| *files > MAX_FILES);
    assert!(folders.is_empty(), "over {MAX_FILES} files: {folders:?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut texts = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable source file");
        let short = file.strip_prefix(&src).expect("a file under src").to_owned();
        if !is_test(&short) {
            texts.push((short, text));
        }
    }
    let arrows = imports::arrows(&texts);
    let mut found = circles::circles(&arrows);
    found.retain(|circle| {
        !circle.iter().all(|file| NOT_YET.iter().any(|name| file.starts_with(name)))
    });
    let told: Vec<String> = found.iter().map(|circle| tell(circle, &arrows)).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
}

/// A circle's files, each with those in the circle that it uses.
fn tell(circle: &BTreeSet<&Path>, arrows: &imports::Arrows) -> String {
    let one = |file: &&Path| {
        let used = arrows[*file].iter().filter(|used| circle.contains(used.as_path()));
        format!("  {} -> {:?}", file.display(), used.collect::<Vec<_>>())
    };
    let files: Vec<String> = circle.iter().map(one).collect();
    format!("circle:\n{}", files.join("\n"))
}

#[test]
fn use_trees_are_read_whole() {
    let text = "use crate::{event::{Event, Origin}, queue::{self, sled::SledQueue}, name};\n\
                fn f(x: crate::clock::Clock) { mycrate::no::x() }";
    let expected = ["clock", "event", "name", "queue", "queue::sled"];
    assert_eq!(uses(text), expected.into_iter().map(str::to_owned).collect());
}
