//! `[handlers.NAME]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use ::config::Value;
use http::uri::PathAndQuery;
use url::Url;

use super::{
    address,
    bounds::between,
    pattern::{InvalidPattern, Pattern},
    server, subscription,
};
use crate::{
    backoff::{Backoff, InvalidBackoff},
    config::{
        files::Role,
        read::{
            section::{Reported, Section, nearest, secret_message},
            setting::{Raw, Setting},
        },
    },
    name::HookName,
    queue::StartAt,
};

/// `[handlers.NAME]`.
#[derive(Debug, Clone)]
pub struct Handler {
    /// What it is.
    pub kind: HandlerKind,
    /// Which events it gets.
    pub matches: Match,
    /// For one attempt.
    pub timeout: Duration,
    /// Attempts at the same time.
    pub concurrency: NonZeroUsize,
    /// Where a new one begins.
    pub start_at: StartAt,
    /// When and how long to try again.
    pub retry: Retry,
}

/// `[handlers.NAME] retry`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// The delays.
    pub backoff: Backoff,
    /// Then it is a dead letter.
    pub give_up_after: Duration,
}

/// `[handlers.NAME] match`: an event matches when each list that is not empty has a match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Names of subscriptions or sources.
    pub from: Vec<HookName>,
    /// Patterns.
    pub ty: Vec<Pattern>,
    /// Patterns.
    pub source: Vec<Pattern>,
    /// Patterns.
    pub subject: Vec<Pattern>,
    /// Patterns.
    pub resource: Vec<Pattern>,
}

/// `[handlers.NAME] kind` and what goes with it.
#[derive(Debug, Clone)]
pub enum HandlerKind {
    /// POST to a URL.
    Http(HttpHandler),
    /// Run a command.
    Exec(ExecHandler),
    /// Append to a file.
    File(FileHandler),
}

/// `kind = "http"`.
#[derive(Debug, Clone)]
pub struct HttpHandler {
    /// Where to.
    pub target: HttpTarget,
    /// How an event becomes a request.
    pub content_mode: ContentMode,
}

/// `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpTarget {
    /// `http://` or `https://`.
    Url(Url),
    /// `unix:/run/app.sock:/events`.
    Unix {
        /// The socket.
        socket: PathBuf,
        /// Path and query of the request.
        path: String,
    },
}

/// `content_mode`: the CloudEvents HTTP binding's (section 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContentMode {
    /// The event as JSON, byte for byte as it came.
    #[default]
    Structured,
    /// Attributes in `ce-` headers, data in the body.
    Binary,
}

/// `kind = "exec"`.
#[derive(Debug, Clone)]
pub struct ExecHandler {
    /// Program and arguments; the program is an absolute path.
    pub command: Vec<String>,
    /// Set for it, beside PATH, LANG and `CE_*`.
    pub env: BTreeMap<String, String>,
}

/// `kind = "file"`.
#[derive(Debug, Clone)]
pub struct FileHandler {
    /// Where lines are appended.
    pub path: PathBuf,
}

/// One handler must not take all there is.
const MOST_AT_ONCE: usize = 1024;
/// In less nothing can be done with an event.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);
/// A longer attempt is no attempt.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a handler can be, and the keys that go only with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Exec,
    File,
}

const KINDS: [(&str, Kind, &[&str]); 3] = [
    ("http", Kind::Http, &["url", "content_mode"]),
    ("exec", Kind::Exec, &["command", "env"]),
    ("file", Kind::File, &["path"]),
];
const NOT_BUILT: [&str; 3] = ["nats", "pull", "correspondence"];

const USUAL_AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);
const USUAL_ATTEMPT: Duration = Duration::from_secs(30);

pub(in crate::config) fn handler(
    mut section: Section<'_>,
    hooks: &BTreeSet<HookName>,
) -> Result<Handler, Reported> {
    let kind = section.need_as("kind", |Raw(word)| kind(&word));
    let kind = specific(&mut section, kind);
    if let Some((key, role)) = kind.as_ref().ok().and_then(needs) {
        section.names(key, role);
    }
    let matches = section.section_or_empty("match").and_then(|table| match_table(table, hooks));
    let timeout = section.optional_as("timeout", between(SHORTEST_ATTEMPT, LONGEST_ATTEMPT));
    let concurrency = section.optional_as("concurrency", server::within(MOST_AT_ONCE));
    let order = only(&mut section, "order_by", "none");
    let on_dead = only(&mut section, "on_dead", "skip");
    let start_at = subscription::start(&mut section, "start_at");
    let retry = section.section_or_empty("retry").and_then(retry);
    section.finish();
    order.and(on_dead)?;
    Ok(Handler {
        kind: kind?,
        matches: matches?,
        timeout: timeout?.unwrap_or(USUAL_ATTEMPT),
        concurrency: concurrency?.unwrap_or(USUAL_AT_ONCE),
        start_at: start_at?,
        retry: retry?,
    })
}

/// What it needs of the machine, by the key that says so.
fn needs(kind: &HandlerKind) -> Option<(&'static str, Role)> {
    match kind {
        HandlerKind::Http(http) => match &http.target {
            HttpTarget::Url(url) if url.scheme() == "https" => Some(("url", Role::Remote)),
            HttpTarget::Url(_) | HttpTarget::Unix { .. } => None,
        },
        HandlerKind::Exec(exec) => {
            let program = exec.command.first()?;
            Some(("command", Role::Program(PathBuf::from(program))))
        }
        HandlerKind::File(file) => Some(("path", Role::Output(file.path.clone()))),
    }
}

fn kind(word: &str) -> Result<Kind, String> {
    let known = KINDS.iter().find(|(name, ..)| *name == word);
    known.map(|(_, kind, _)| *kind).ok_or_else(|| {
        let names = KINDS.map(|(name, ..)| format!("\"{name}\"")).join(", ");
        if NOT_BUILT.contains(&word) {
            format!("{word} is not built yet; must be one of {names}")
        } else {
            format!("must be one of {names}")
        }
    })
}

/// The keys of the kind; the keys of other kinds are refused by name.
fn specific(
    section: &mut Section<'_>,
    kind: Result<Kind, Reported>,
) -> Result<HandlerKind, Reported> {
    for (name, of, keys) in KINDS {
        for key in keys.iter().filter(|_| kind.is_ok_and(|kind| kind != of)) {
            section.refuse(&[(key, &format!("is only for kind = \"{name}\""))]);
        }
    }
    match kind {
        Ok(Kind::Http) => http(section).map(HandlerKind::Http),
        Ok(Kind::Exec) => exec(section).map(HandlerKind::Exec),
        Ok(Kind::File) => file(section).map(HandlerKind::File),
        Err(reported) => {
            // Without a kind, whether its keys are right is not known.
            for key in KINDS.iter().flat_map(|(.., keys)| *keys) {
                section.take(key);
            }
            Err(reported)
        }
    }
}

fn http(section: &mut Section<'_>) -> Result<HttpHandler, Reported> {
    let base = section.base();
    let target = section.need_as("url", |text: String| target(&text, base));
    let modes = [("structured", ContentMode::Structured), ("binary", ContentMode::Binary)];
    let content_mode = section.choice("content_mode", &modes);
    Ok(HttpHandler { target: target?, content_mode: content_mode?.unwrap_or_default() })
}

const RIGHT: &str = "must be an http:// or https:// URL, or unix:SOCKET:/path";

fn target(text: &str, base: &Path) -> Result<HttpTarget, String> {
    if let Some(rest) = text.strip_prefix("unix:") {
        return unix(rest, base);
    }
    let url = Url::parse(text).map_err(|_| RIGHT.to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        Err(RIGHT.to_owned())
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(address::CREDENTIALS.to_owned())
    } else if url.fragment().is_some() {
        Err("must be without a fragment (#…)".to_owned())
    } else if url.port() == Some(0) {
        Err(address::PORT.to_owned())
    } else {
        Ok(HttpTarget::Url(url))
    }
}

fn unix(text: &str, base: &Path) -> Result<HttpTarget, String> {
    let right = || "must be unix:SOCKET:/path, such as unix:/run/app.sock:/events".to_owned();
    let (socket, path) =
        text.split_once(":/").filter(|(socket, _)| !socket.is_empty()).ok_or_else(right)?;
    let path = format!("/{path}");
    path.parse::<PathAndQuery>().ok().filter(|_| !path.contains('#')).ok_or_else(right)?;
    Ok(HttpTarget::Unix { socket: server::socket(base.join(socket))?, path })
}

fn exec(section: &mut Section<'_>) -> Result<ExecHandler, Reported> {
    let command = section.need_as("command", |words: Vec<Raw>| {
        let words: Vec<_> = words.into_iter().map(|Raw(word)| word).collect();
        match words.first() {
            None => Err("is empty: the program comes first, then its arguments".to_owned()),
            Some(program) if Path::new(program).is_absolute() => Ok(words),
            Some(_) => Err("must begin with the program's absolute path".to_owned()),
        }
    });
    let env = section.section_or_empty("env").and_then(env);
    Ok(ExecHandler { command: command?, env: env? })
}

/// Free names, but no secrets: those go into a file, whose path goes here.
fn env(mut section: Section<'_>) -> Result<BTreeMap<String, String>, Reported> {
    let rest = section.rest();
    let read = |(name, value): (String, Value)| {
        let named = if let Some(message) = secret_message(&name) {
            Err(message)
        } else if name.is_empty() || name.contains(['=', '\0']) {
            Err("is not the name of a variable".to_owned())
        } else {
            Raw::read(value)
        };
        let Raw(value) = named.map_err(|fault| section.fault(&name, fault))?;
        Ok((name, value))
    };
    let read: Vec<_> = rest.into_iter().map(read).collect();
    read.into_iter().collect()
}

fn file(section: &mut Section<'_>) -> Result<FileHandler, Reported> {
    Ok(FileHandler { path: section.need_path("path", "is missing: name the file")? })
}

/// A key that will have more values one day.
fn only(section: &mut Section<'_>, key: &'static str, right: &str) -> Result<(), Reported> {
    let read = section.optional_as(key, |word: String| {
        if word == right { Ok(()) } else { Err(format!("only \"{right}\" is built yet")) }
    });
    read.map(|_| ())
}

fn match_table(mut section: Section<'_>, hooks: &BTreeSet<HookName>) -> Result<Match, Reported> {
    let from = section.optional_as("from", |names: Vec<String>| {
        not_empty(names)?.iter().map(|name| hook(name, hooks)).collect::<Result<Vec<_>, _>>()
    });
    let ty = section.optional_as("type", not_empty);
    let source = section.optional_as("source", not_empty);
    let subject = section.optional_as("subject", not_empty);
    let resource = section.optional_as("resource", not_empty);
    section.finish();
    Ok(Match {
        from: from?.unwrap_or_default(),
        ty: ty?.unwrap_or_default(),
        source: source?.unwrap_or_default(),
        subject: subject?.unwrap_or_default(),
        resource: resource?.unwrap_or_default(),
    })
}

/// In an empty list nothing matches, and the handler would get nothing.
fn not_empty<T>(list: Vec<T>) -> Result<Vec<T>, String> {
    if list.is_empty() {
        Err("is empty, and would match nothing: leave it out to match everything".to_owned())
    } else {
        Ok(list)
    }
}

fn hook(name: &str, hooks: &BTreeSet<HookName>) -> Result<HookName, String> {
    if let Some(hook) = hooks.iter().find(|hook| hook.as_str() == name) {
        return Ok(hook.clone());
    }
    Err(match nearest(name, hooks.iter().map(HookName::as_str)) {
        Some(nearest) => format!("names no subscription or source; did you mean {nearest}?"),
        None => "must be the names of subscriptions and sources in this file".to_owned(),
    })
}

impl Setting for Pattern {
    fn read(value: Value) -> Result<Self, String> {
        // No text check: a pattern for types of others may look odd.
        let Raw(text) = Raw::read(value)?;
        text.parse().map_err(|fault: InvalidPattern| fault.to_string())
    }
}

/// What is not written has its default.
fn retry(mut section: Section<'_>) -> Result<Retry, Reported> {
    let initial = section.or("initial", Duration::from_secs(1));
    let max = section.or("max", Duration::from_secs(60 * 60));
    let factor = section.or("factor", 2.0);
    let give_up_after = section.or("give_up_after", Duration::from_secs(7 * 24 * 60 * 60));
    let backoff = match (initial, max, factor) {
        (Ok(initial), Ok(max), Ok(factor)) => {
            Backoff::try_new(initial, max, factor).map_err(|fault| {
                let key = match fault {
                    InvalidBackoff::ZeroInitial => "initial",
                    InvalidBackoff::MaxBelowInitial => "max",
                    InvalidBackoff::Factor => "factor",
                };
                section.fault(key, fault.to_string())
            })
        }
        (Err(reported), ..) | (_, Err(reported), _) | (.., Err(reported)) => Err(reported),
    };
    section.finish();
    Ok(Retry { backoff: backoff?, give_up_after: give_up_after? })
}
