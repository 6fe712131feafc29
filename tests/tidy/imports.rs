//! Reads which file of `src` uses which: the arrows of the house.
//!
//! Owns the reading of paths. A path that begins with `crate`, `self`, `super`, a child module or an
//! imported module is followed through re-exports to the file that defines the name. Not read are
//! tests, and what no path names: methods, and macros without a path.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Which file uses which.
pub(crate) type Arrows = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// A module's place: the segments after `crate`.
type Place = Vec<String>;

/// What a file says of itself.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// Items that it defines.
    defined: BTreeSet<String>,
    /// Names that it imports, each with its whole path.
    imported: BTreeMap<String, Place>,
    /// Modules of which it imports every name.
    globs: Vec<Place>,
    /// Paths in its code that are not imports, from `crate` on.
    named: Vec<Place>,
}

/// The arrows between files, given as paths below `src` with their texts.
pub(crate) fn arrows(files: &[(PathBuf, String)]) -> Arrows {
    let places: BTreeMap<Place, &Path> =
        files.iter().map(|(file, _)| (place(file), file.as_path())).collect();
    let modules: BTreeMap<Place, Module> =
        files.iter().map(|(file, text)| (place(file), read(file, text, &places))).collect();
    let mut arrows = Arrows::new();
    for module in modules.values() {
        let paths = module.imported.values().chain(&module.globs).chain(&module.named);
        let used = paths.filter_map(|path| definer(path, &modules, 0));
        let used = used.filter(|used| *used != module.file).map(Path::to_owned).collect();
        arrows.insert(module.file.clone(), used);
    }
    arrows
}

/// `altinn/feed/mod.rs` and `altinn/feed.rs` are both `altinn::feed`.
fn place(file: &Path) -> Place {
    let parts = file.with_extension("");
    let parts = parts.iter().map(|part| part.to_str().expect("UTF-8").to_owned());
    let mut place: Place = parts.collect();
    if place.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
        place.pop();
    }
    place
}

/// The file in which the thing at the end of a path is written. `None` if the path ends at a module,
/// which is only a way to name what is in it, or is not of this crate.
fn definer<'m>(
    path: &[String],
    modules: &'m BTreeMap<Place, Module>,
    depth: u32,
) -> Option<&'m Path> {
    // Re-exports of re-exports: no tree is this deep.
    if depth > 10 {
        return None;
    }
    let known = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let module = &modules[&path[..known]];
    let (name, below) = path[known..].split_first()?;
    if module.defined.contains(name) {
        return Some(&module.file);
    }
    let follow = |target: &Place| {
        let whole: Place = target.iter().chain(below).cloned().collect();
        definer(&whole, modules, depth + 1)
    };
    if let Some(target) = module.imported.get(name) {
        return follow(target);
    }
    let in_glob = |target: &&Place| {
        modules.get(*target).is_some_and(|module| {
            module.defined.contains(name) || module.imported.contains_key(name)
        })
    };
    if let Some(target) = module.globs.iter().find(in_glob) {
        let whole: Place = target.iter().chain([name]).chain(below).cloned().collect();
        return definer(&whole, modules, depth + 1);
    }
    Some(&module.file)
}

fn read(file: &Path, text: &str, places: &BTreeMap<Place, &Path>) -> Module {
    let tokens = without_tests(&tokens(text));
    let mut reader = Reader {
        own: place(file),
        places,
        module: Module { file: file.into(), ..Module::default() },
    };
    reader.imports(&tokens);
    reader.definitions(&tokens);
    reader.paths(&tokens);
    reader.module
}

struct Reader<'p> {
    own: Place,
    places: &'p BTreeMap<Place, &'p Path>,
    module: Module,
}

impl Reader<'_> {
    /// A path from `crate` on, or `None` if it is another crate's.
    fn whole(&self, path: &[String]) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Place::new(),
            "self" => self.own.clone(),
            "super" => parent(&self.own)?,
            name => self.named(name)?,
        };
        let mut rest = rest;
        while let Some((name, below)) = rest.split_first()
            && name == "super"
        {
            base = parent(&base)?;
            rest = below;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// A child module, or a module that was imported.
    fn named(&self, name: &str) -> Option<Place> {
        let child: Place = self.own.iter().cloned().chain([name.to_owned()]).collect();
        if self.places.contains_key(&child) {
            return Some(child);
        }
        let imported = self.module.imported.get(name)?;
        self.places.contains_key(imported).then(|| imported.clone())
    }

    fn imports(&mut self, tokens: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                at = self.tree(tokens, at + 1, &mut Vec::new());
            }
            at += 1;
        }
    }

    /// One use tree; the index of the token after it.
    fn tree(&mut self, tokens: &[String], mut at: usize, path: &mut Vec<String>) -> usize {
        let depth = path.len();
        // `::name` is another crate's, whatever is called so here.
        if depth == 0 && tokens[at] == "::" {
            path.push(String::new());
            at += 1;
        }
        loop {
            if tokens[at] == "{" {
                at += 1;
                while tokens[at] != "}" {
                    at = self.tree(tokens, at, path);
                    if tokens[at] == "," {
                        at += 1;
                    }
                }
                at += 1;
                break;
            }
            path.push(tokens[at].clone());
            at += 1;
            if tokens[at] == "::" {
                at += 1;
                continue;
            }
            let mut name = path.last().cloned().unwrap_or_default();
            if name == "self" && path.len() > 1 {
                path.pop();
                name = path.last().cloned().unwrap_or_default();
            }
            if tokens[at] == "as" {
                name.clone_from(&tokens[at + 1]);
                at += 2;
            }
            self.import(&name, path);
            break;
        }
        path.truncate(depth);
        at
    }

    fn import(&mut self, name: &str, path: &[String]) {
        if name == "*" {
            let glob = self.whole(&path[..path.len() - 1]);
            self.module.globs.extend(glob);
        } else if let Some(whole) = self.whole(path) {
            self.module.imported.insert(name.to_owned(), whole);
        }
    }

    fn definitions(&mut self, tokens: &[String]) {
        const KINDS: [&str; 8] =
            ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
        let mut depth = 0_usize;
        for pair in tokens.windows(2) {
            match pair[0].as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                kind if depth == 0 && KINDS.contains(&kind) => {
                    self.module.defined.insert(pair[1].clone());
                }
                _ => {}
            }
        }
    }

    /// Paths outside of imports.
    fn paths(&mut self, tokens: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                at += tokens[at..].iter().position(|token| token == ";").unwrap_or(0);
            }
            let begins = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
            let mut path = Vec::new();
            while begins
                && at + 2 < tokens.len()
                && tokens[at + 1] == "::"
                && is_name(&tokens[at + 2])
            {
                path.push(tokens[at].clone());
                at += 2;
            }
            if !path.is_empty() {
                path.push(tokens[at].clone());
                let whole = self.whole(&path);
                self.module.named.extend(whole);
            }
            at += 1;
        }
    }
}

fn parent(place: &[String]) -> Option<Place> {
    place.split_last().map(|(_, parent)| parent.to_vec())
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names and punctuation, without comments and the insides of texts.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => quoted(rest),
            'r' | 'b' if raw(rest).is_some() => raw(rest).unwrap_or(1),
            '\'' => character(rest),
            _ if is_name(rest) => name(rest),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let text_or_comment = token.starts_with(['/', '\'']) || token.contains('"');
        if !text_or_comment && !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

fn name(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The length of a text in quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of `r#"…"#`, `b"…"` and the like; `None` if it is a name.
fn raw(text: &str) -> Option<usize> {
    let prefix = name(text);
    if !["r", "b", "br"].contains(&&text[..prefix]) {
        return None;
    }
    let hashes = text[prefix..].chars().take_while(|c| *c == '#').count();
    let body = &text[prefix + hashes..];
    if !body.starts_with('"') {
        return None;
    }
    if !text[..prefix].contains('r') {
        return Some(prefix + quoted(body));
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body[1..].find(&end).map_or(body.len(), |at| 1 + at + end.len());
    Some(prefix + hashes + length)
}

/// The length of a character in quotes, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => text[3..].find('\'').map_or(text.len(), |at| 3 + at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Leaves out every item that stands under `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(TEST.len()).eq(TEST) {
            at = item_end(tokens, at + TEST.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The index after an item: after its `;`, or after the brace that closes it.
fn item_end(tokens: &[String], mut at: usize) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    let is_use = tokens[at..].iter().take(6).any(|token| token == "use");
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => braces += 1,
            "}" => braces -= 1,
            "(" | "[" => others += 1,
            ")" | "]" => others -= 1,
            _ => {}
        }
        let closed = braces == 0 && others == 0;
        if closed && (tokens[at] == ";" || tokens[at] == "}" && !is_use) {
            return at + 1;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(files: &[(&str, &str)]) -> Arrows {
        let files: Vec<_> =
            files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
        arrows(&files)
    }

    fn used<'a>(arrows: &'a Arrows, file: &str) -> Vec<&'a str> {
        arrows[Path::new(file)].iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn every_way_to_name_a_file_is_an_arrow() {
        let arrows = house(&[
            ("lib.rs", "pub mod a; pub mod b;"),
            ("b.rs", "pub struct B; pub fn f() {}"),
            ("a/mod.rs", "mod one; mod two; pub use one::One; pub fn shared() { two::go(); }"),
            ("a/one.rs", "use crate::b::{self, B as Other}; pub struct One; fn g() { b::f() }"),
            ("a/two.rs", "pub fn go() { let _ = super::super::b::B; super::One; self::go(); }"),
            ("a/three.rs", "use super::*; use ::b::B; fn f(x: super::two::Two) { shared() }"),
        ]);
        assert_eq!(used(&arrows, "a/mod.rs"), ["a/one.rs", "a/two.rs"]);
        assert_eq!(used(&arrows, "a/one.rs"), ["b.rs"]);
        assert_eq!(used(&arrows, "a/two.rs"), ["a/one.rs", "b.rs"]);
        assert_eq!(used(&arrows, "a/three.rs"), ["a/two.rs"]);
        assert!(used(&arrows, "lib.rs").is_empty() && used(&arrows, "b.rs").is_empty());
    }

    #[test]
    fn comments_texts_and_tests_are_no_arrows() {
        let arrows = house(&[
            ("b.rs", "pub struct B;"),
            (
                "a.rs",
                "//! crate::b::B\nconst A: &str = \"crate::b::B\\\"\"; const C: char = '\"'; \
                 fn f<'a>(x: &'a str) -> &'a [u8] { br#\"crate::b::B\"# }\n\
                 #[cfg(test)] use crate::b::{B};\n#[cfg(test)]\nmod tests { use crate::b::B; }",
            ),
        ]);
        assert!(used(&arrows, "a.rs").is_empty(), "{arrows:?}");
    }
}
