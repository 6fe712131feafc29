//! The whole, what holds between tables, and the tables too small for a file of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use super::{
    altinn::{self, Altinn},
    bounds::{LONGEST_REQUEST, at_most},
    handler::{self, Handler},
    listen,
    server::{self, Admin, AllowFromMode, Server},
    source::{self, Source},
    subscription::{self, Subscription},
};
use crate::{
    config::{
        files::{NamedFile, Role},
        origins::Origins,
        read::{
            section::{Reported, Section},
            setting::Size,
        },
    },
    name::{HandlerName, HookName},
    queue,
    store::MIN_FREE_DISK,
};

/// Shorter than that nothing is worth keeping.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// All of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store and made secrets are.
    pub data_dir: PathBuf,
    /// How long stopping may take.
    pub shutdown_grace: Duration,
    /// The hook endpoint.
    pub server: Server,
    /// Status, metrics, dead letters.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// The log's limits.
    pub queue: Queue,
    /// Altinn; there is none without `[altinn]`.
    pub altinn: Option<Altinn>,
    /// What to ask Altinn for.
    pub subscriptions: BTreeMap<HookName, Subscription>,
    /// Other CloudEvents senders.
    pub sources: BTreeMap<HookName, Source>,
    /// Where events go.
    pub handlers: BTreeMap<HandlerName, Handler>,
    /// Every file that it names, to be tried before the start.
    pub files: Vec<NamedFile>,
    /// What the environment set.
    pub origins: Origins,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// A level, or directives as tracing's `EnvFilter` reads them.
    pub level: String,
}

/// `[log] format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// journald under systemd, else text.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[queue]`; the only store so far is sled.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Live bytes at which new events get 503.
    pub max_bytes: u64,
    /// Free disk below which new events get 503.
    pub min_free_disk: u64,
    /// How long an event's identity is remembered.
    pub dedup_window: Duration,
    /// How many identities are remembered at the most.
    pub dedup_max: usize,
    /// How long delivered events are kept.
    pub retain: Duration,
    /// How many dead letters are kept.
    pub dead_letters_max: usize,
    /// How many bytes of them.
    pub dead_letters_bytes: u64,
    /// How long.
    pub dead_letters_age: Duration,
}

/// The configuration, or proof that something was reported.
pub(in crate::config) fn config(mut root: Section<'_>) -> Result<Config, Reported> {
    let data_dir = root.path("data_dir");
    if let Ok(Some(data_dir)) = &data_dir {
        root.names("data_dir", Role::DataDir(data_dir.clone()));
    }
    let shutdown_grace = root.need_as("shutdown_grace", at_most(LONGEST_REQUEST));
    let server = root.section_or_empty("server").and_then(server::server);
    let admin = root.section_or_empty("admin").and_then(server::admin);
    if let (Ok(server), Ok(Admin { listen: Some(admin), .. })) = (&server, &admin)
        && let Some(message) = listen::beside(*admin, &server.listen)
    {
        root.fault_below("admin.listen", message);
    }
    let log = root.section_or_empty("log").and_then(log_table);
    let queue_limits = root.section_or_empty("queue").and_then(queue_table);
    let altinn = root.section("altinn").and_then(|section| section.map(altinn::altinn).transpose());
    let subscriptions = root.named::<HookName>("subscriptions");
    let sources = root.named::<HookName>("sources");
    let names: BTreeSet<_> =
        subscriptions.iter().chain(&sources).map(|(name, _)| name).cloned().collect();
    if !subscriptions.is_empty() && matches!(altinn, Ok(None)) {
        root.fault("altinn", "is missing: subscriptions are Altinn's, so it must be configured");
    }
    for (name, section) in &sources {
        if subscriptions.iter().any(|(other, _)| other == name) {
            section
                .fault_here("is also the name of a subscription; both have the hook /hooks/NAME");
        }
    }
    let subscriptions = all(subscriptions, subscription::subscription);
    // A server that could not be read has been told; it is no reason for another fault.
    let guarded = server.as_ref().map_or(true, enforces);
    let sources = all(sources, |section| source::source(section, guarded));
    let handlers = root.named::<HandlerName>("handlers");
    for (_, section) in handlers.iter().filter(|(name, _)| name.as_str() == queue::RAW) {
        section.fault_here("cannot be a handler's name: undecodable pushes are listed under it");
    }
    let handlers = all(handlers, |section| handler::handler(section, &names));
    root.finish();
    Ok(Config {
        data_dir: data_dir?.unwrap_or_default(),
        shutdown_grace: shutdown_grace?,
        server: server?,
        admin: admin?,
        log: log?,
        queue: queue_limits?,
        altinn: altinn?,
        subscriptions: subscriptions?,
        sources: sources?,
        handlers: handlers?,
        files: Vec::new(),
        origins: Origins::default(),
    })
}

/// Whether only those are let in who are listed.
fn enforces(server: &Server) -> bool {
    server.allow_from.as_ref().is_some_and(|list| list.mode == AllowFromMode::Enforce)
}

fn all<'a, N: Ord, T>(
    sections: Vec<(N, Section<'a>)>,
    check: impl Fn(Section<'a>) -> Result<T, Reported>,
) -> Result<BTreeMap<N, T>, Reported> {
    // Checked first and collected then, so that the first fault does not hide the others.
    let checked: Vec<_> =
        sections.into_iter().map(|(name, section)| (name, check(section))).collect();
    checked.into_iter().map(|(name, checked)| Ok((name, checked?))).collect()
}

fn log_table(mut section: Section<'_>) -> Result<Log, Reported> {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", &formats);
    let level = section.defaulted_as("level", level);
    section.finish();
    Ok(Log { format: format?.unwrap_or(LogFormat::Auto), level: level? })
}

/// A bare word is a target to `EnvFilter`, so that "inof" would show everything of a crate inof.
fn level(text: String) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let bare = |directive: &&str| !directive.contains(['=', '[']);
    let known = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let odd = text.split(',').map(str::trim).filter(bare).any(|word| !known(word));
    if odd || EnvFilter::try_new(&text).is_err() {
        let levels = LEVELS.join(", ");
        return Err(format!(
            "must be one of {levels}, or directives such as \"info,brevdue=debug\""
        ));
    }
    Ok(text)
}

fn queue_table(mut section: Section<'_>) -> Result<Queue, Reported> {
    let store = section.optional_as("store", |store: String| match store.as_str() {
        "sled" => Ok(()),
        "jetstream" => Err("jetstream is not built yet; must be \"sled\"".to_owned()),
        _ => Err("must be \"sled\"".to_owned()),
    });
    let max_bytes = section.need_as("max_bytes", |Size(bytes)| {
        let smallest = 16 << 20;
        if bytes < smallest { Err("must be at least 16MiB".to_owned()) } else { Ok(bytes) }
    });
    let min_free_disk = section.need_as("min_free_disk", |Size(bytes)| {
        if bytes < MIN_FREE_DISK {
            let least = MIN_FREE_DISK >> 20;
            Err(format!("must be at least {least}MiB: with less the disk could fill up"))
        } else {
            Ok(bytes)
        }
    });
    let dedup_window = section.need_as("dedup_window", |window: Duration| {
        let again = "senders send an event again for hours, and it would be stored twice";
        if window < HOUR { Err(format!("must be at least 1h: {again}")) } else { Ok(window) }
    });
    let dedup_max = section.need_as("dedup_max", |most: u64| {
        let range = 1_000..=100_000_000;
        usize::try_from(most)
            .ok()
            .filter(|most| range.contains(most))
            .ok_or_else(|| "must be from 1000 to 100000000".to_owned())
    });
    let retain = section.need("retain");
    let dead_letters_max = section.need_as("dead_letters_max", |most: u64| {
        usize::try_from(most)
            .ok()
            .filter(|most| (1..=10_000_000).contains(most))
            .ok_or_else(|| "must be from 1 to 10000000".to_owned())
    });
    let dead_letters_bytes = section.need_as("dead_letters_bytes", |Size(bytes)| {
        let smallest = 2 << 20;
        if bytes < smallest {
            Err("must be at least 2MiB: one dead letter can be larger than 1MiB".to_owned())
        } else {
            Ok(bytes)
        }
    });
    let dead_letters_age = section.need_as("dead_letters_age", |age: Duration| {
        let time = "someone must have the time to see it";
        if age < HOUR { Err(format!("must be at least 1h: {time}")) } else { Ok(age) }
    });
    section.finish();
    store?;
    Ok(Queue {
        max_bytes: max_bytes?,
        min_free_disk: min_free_disk?,
        dedup_window: dedup_window?,
        dedup_max: dedup_max?,
        retain: retain?,
        dead_letters_max: dead_letters_max?,
        dead_letters_bytes: dead_letters_bytes?,
        dead_letters_age: dead_letters_age?,
    })
}
