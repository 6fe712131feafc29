//! The configuration, typed and checked.
//!
//! Owns what an operator may write (design section 4) and what it means. `load` reads and layers
//! it and finds every problem at once; nothing here opens a socket, a store or a secret for use.

mod check;
mod egress;
mod environment;
pub mod files;
mod leaf;
pub mod load;
mod pattern;
pub mod problem;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration,
};

use url::Url;

pub(crate) use check::encrypted_or_local;

use crate::{
    backoff::Backoff,
    name::{HandlerName, HookName},
    network::Network,
    queue::StartAt,
    secret::SecretFile,
};

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
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Addresses to listen on; sockets from systemd come before these.
    pub listen: Vec<SocketAddr>,
    /// What senders are told: https, without query; its path is a prefix of every hook's.
    pub public_url: Url,
    /// The certificate, or `None` behind a proxy (`tls = "off"`).
    pub tls: Option<Tls>,
    /// Proxies whose `X-Forwarded-For` is believed, or whose PROXY header.
    pub trusted_proxies: Vec<Network>,
    /// Whether each connection begins with a PROXY protocol header (version 2).
    pub proxy_protocol: bool,
    /// Who may call; `None` for everyone.
    pub allow_from: Option<AllowFrom>,
    /// Connections at the same time.
    pub max_connections: NonZeroUsize,
    /// Bytes of a request's body; at most 1 MiB.
    pub max_body: usize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head, its body, its answer; and for idle connections.
    pub request_timeout: Duration,
}

/// `[server] allow_from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowFrom {
    /// The named sets taken apart.
    pub networks: Vec<Network>,
    /// What happens to others.
    pub mode: AllowFromMode,
}

/// `[server] allow_from_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowFromMode {
    /// They get 403.
    Enforce,
    /// They are served, logged and counted.
    Report,
}

/// `[server] tls`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM, the leaf first.
    pub certificate_file: PathBuf,
    /// PEM.
    pub key_file: SecretFile,
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The Unix socket.
    pub socket: PathBuf,
    /// TCP, optional.
    pub listen: Option<SocketAddr>,
    /// The bearer token for TCP; without it TCP serves health and metrics only.
    pub token_file: Option<SecretFile>,
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

/// `[altinn]`.
#[derive(Debug, Clone)]
pub struct Altinn {
    /// Ends without a slash.
    pub platform_url: Url,
    /// The issuer identifier, which is also the grant's `aud`: with its slash at the end.
    pub maskinporten_issuer: String,
    /// A CA to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How often subscriptions are looked at.
    pub reconcile_interval: Duration,
    /// How often the feed is read.
    pub feed_interval: Duration,
    /// How long a replaced subscription stays.
    pub overlap: Duration,
    /// Whether our own public URL is asked before Altinn is told it.
    pub self_proof: bool,
    /// Sent as `Ocp-Apim-Subscription-Key`.
    pub api_key_file: Option<SecretFile>,
    /// The client.
    pub maskinporten: Maskinporten,
}

/// `[altinn.maskinporten]`.
#[derive(Debug, Clone)]
pub struct Maskinporten {
    /// The client's id.
    pub client_id: String,
    /// An RSA private key: PEM (PKCS#1 or PKCS#8) or a JWK.
    pub key_file: SecretFile,
    /// What tells Maskinporten which key it is.
    pub key_name: KeyName,
    /// At least `altinn:events.subscribe`.
    pub scopes: Vec<String>,
    /// On whose behalf.
    pub system_user: Option<SystemUser>,
    /// The consumer on whose behalf a supplier asks: nine digits.
    pub consumer_org: Option<String>,
    /// What the token is restricted to (`aud`); anything if empty.
    pub resource: Vec<String>,
}

/// `[altinn.maskinporten]` `key_id` or `certificate_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyName {
    /// The key's id as registered with the client (`kid`).
    Id(String),
    /// An enterprise certificate: the chain in PEM, the leaf first (`x5c`).
    Certificate(PathBuf),
}

/// `[altinn.maskinporten] system_user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemUser {
    /// Nine digits.
    pub org: String,
    /// As given when the system user was requested.
    pub external_ref: Option<String>,
    /// The system's id in Altinn's register; only `doctor` asks for it.
    pub system_id: Option<String>,
}

/// `[subscriptions.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The whole URN.
    pub resource: String,
    /// A URN or Altinn path; `None` as service owner.
    pub subject: Option<String>,
    /// Exact; one.
    pub ty: Option<String>,
    /// Also the subject's subunits.
    pub include_subunits: bool,
    /// The hook's secrets; made and kept by brevdue if `None`.
    pub secret_file: Option<SecretFile>,
    /// Whether the feed's past is taken in at the first start.
    pub start_from: StartAt,
}

/// `[sources.NAME]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// How its requests are authenticated.
    pub auth: SourceAuth,
    /// Origins that may ask by OPTIONS.
    pub allowed_origins: Vec<String>,
}

/// `[sources.NAME] auth`.
#[derive(Debug, Clone)]
pub enum SourceAuth {
    /// `Authorization: Bearer`.
    Bearer {
        /// The token, one a line.
        file: SecretFile,
    },
    /// Standard Webhooks signatures (`webhook-id`, `webhook-timestamp`, `webhook-signature`).
    StandardWebhooks {
        /// `whsec_…`, one a line.
        file: SecretFile,
        /// How far the timestamp may be off.
        tolerance: Duration,
    },
    /// Whoever `server.allow_from` lets in; it is set and enforced.
    AllowFrom,
}

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

/// A text to match, case-sensitive, with `*` at the beginning, the end, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// No `*`.
    Exact(String),
    /// `text*`; `*` alone is the empty prefix.
    Prefix(String),
    /// `*text`.
    Suffix(String),
    /// `*text*`.
    Contains(String),
}

impl Pattern {
    /// Whether `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(whole) => text == whole,
            Self::Prefix(start) => text.starts_with(start),
            Self::Suffix(end) => text.ends_with(end),
            Self::Contains(part) => text.contains(part),
        }
    }
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
