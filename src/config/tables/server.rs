//! `[server]` and `[admin]`.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ::config::ValueKind;
use url::{Host, Url};

use super::{
    address,
    altinn_networks::SETS,
    bounds::{LONGEST_REQUEST, above_zero},
    listen,
};
use crate::{
    config::{
        files::{Role, Tls},
        read::{
            section::{Reported, Section},
            setting::Size,
        },
    },
    network::{InvalidNetwork, Network},
    secret::SecretFile,
    server::bodies::STRANGERS,
};

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
    /// Of these, connections of one IPv4 address or one IPv6 /64; a quarter, if left out.
    pub max_connections_per_address: NonZeroUsize,
    /// Bytes of a request's body; at most 1 MiB.
    pub max_body: usize,
    /// Bytes of all bodies at the same time; a quarter of them for senders that have proved nothing.
    pub max_body_total: usize,
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

const MOST_CONNECTIONS: usize = 100_000;
/// A larger one is a mistake.
const LARGEST_TOTAL: usize = 64 * 1024 * 1024 * 1024;
/// An event of Altinn's without data is nearly as large.
const SMALLEST_BODY: usize = 1000;
/// What is sure to fit into the store, however it is encoded.
const LARGEST_BODY: usize = 1024 * 1024;
/// `sun_path` has 108 bytes, the last of them NUL.
pub(in crate::config) const LONGEST_SOCKET: usize = 107;

const NOT_BUILT: [(&str, &str); 1] =
    [("client_ca_file", "client_ca_file is not built yet: clients cannot show certificates")];

pub(in crate::config) fn server(mut section: Section<'_>) -> Result<Server, Reported> {
    section.refuse(&NOT_BUILT);
    let listen = section.need_as("listen", listen::all);
    let public_url = section.need_as("public_url", public_url);
    let host = public_url.as_ref().ok().and_then(host);
    let tls = tls(&mut section, host);
    let trusted_proxies = section.need::<Vec<_>>("trusted_proxies");
    if let (Ok(None), Ok(true)) = (&tls, trusted_proxies.as_ref().map(Vec::is_empty)) {
        let message = "is missing: with tls = \"off\" name the proxies in front, or no request's \
                       sender is known";
        section.fault("trusted_proxies", message);
    }
    let proxy_protocol = section.need("proxy_protocol");
    if let (Ok(true), Ok(true)) = (&proxy_protocol, trusted_proxies.as_ref().map(Vec::is_empty)) {
        let message = "needs trusted_proxies: only they may say who is behind them";
        section.fault("proxy_protocol", message);
    }
    let allow_from = allow_from(&mut section);
    let max_connections = section.need_as("max_connections", within(MOST_CONNECTIONS));
    let max_connections_per_address =
        per_address(&mut section, max_connections.as_ref().ok().copied());
    let max_body = section.need_as("max_body", max_body);
    let max_body_total = body_total(&mut section, max_body.as_ref().ok().copied());
    let handshake_timeout = section.need_as("handshake_timeout", above_zero(LONGEST_REQUEST));
    let request_timeout = section.need_as("request_timeout", above_zero(LONGEST_REQUEST));
    section.finish();
    Ok(Server {
        listen: listen?,
        public_url: public_url?,
        tls: tls?,
        trusted_proxies: trusted_proxies?,
        proxy_protocol: proxy_protocol?,
        allow_from: allow_from?,
        max_connections: max_connections?,
        max_connections_per_address: max_connections_per_address?,
        max_body: max_body?,
        max_body_total: max_body_total?,
        handshake_timeout: handshake_timeout?,
        request_timeout: request_timeout?,
    })
}

pub(in crate::config) fn admin(mut section: Section<'_>) -> Result<Admin, Reported> {
    let base = section.base();
    let socket = section.defaulted_as("socket", |path: String| socket(base.join(path)));
    let listen = section.optional("listen");
    let token_file = section.secret("token_file");
    if let Ok(socket) = &socket {
        section.names("socket", Role::Socket(socket.clone()));
    }
    if let Ok(Some(file)) = &token_file {
        section.names("token_file", Role::Bearer(file.clone()));
    }
    section.finish();
    Ok(Admin { socket: socket?, listen: listen?, token_file: token_file? })
}

/// As a certificate names it: an IPv6 address without brackets.
fn host(url: &Url) -> Option<String> {
    Some(match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

fn allow_from(section: &mut Section<'_>) -> Result<Option<AllowFrom>, Reported> {
    let networks = section.optional_as("allow_from", networks);
    let modes = [("enforce", AllowFromMode::Enforce), ("report", AllowFromMode::Report)];
    let mode = section.choice("allow_from_mode", &modes);
    let (networks, mode) = (networks?, mode?);
    match networks {
        Some(networks) => {
            let mode = mode.unwrap_or(AllowFromMode::Enforce);
            Ok(Some(AllowFrom { networks, mode }))
        }
        None if mode.is_some() => {
            Err(section.fault("allow_from_mode", "is nothing without allow_from"))
        }
        None => Ok(None),
    }
}

/// Networks, and the names of published sets in place of theirs.
#[expect(clippy::needless_pass_by_value, reason = "a check takes what was read")]
fn networks(items: Vec<String>) -> Result<Vec<Network>, String> {
    if items.is_empty() {
        return Err("lets nobody in; leave it out to let everyone in".to_owned());
    }
    let names: Vec<_> = SETS.iter().map(|(name, _)| *name).collect();
    let mut networks = Vec::new();
    for (place, item) in (1..).zip(&items) {
        let set = SETS.iter().find(|(name, _)| name == item);
        let texts = set.map_or_else(|| vec![item.as_str()], |(_, texts)| texts.to_vec());
        for text in texts {
            let parsed = text.parse().map_err(|fault: InvalidNetwork| {
                format!("item {place} {fault}; {} are known by name", names.join(" and "))
            });
            networks.push(parsed?);
        }
    }
    Ok(networks)
}

/// A quarter of all, but not so few that one sender has to wait for itself.
fn per_address(
    section: &mut Section<'_>,
    all: Option<NonZeroUsize>,
) -> Result<NonZeroUsize, Reported> {
    const FEW: usize = 16;
    let most = all.map_or(MOST_CONNECTIONS, NonZeroUsize::get);
    let check = |number| {
        let fault = "must be from 1 to max_connections".to_owned();
        within(most)(number).map_err(|_| fault)
    };
    let given = section.optional_as("max_connections_per_address", check)?;
    let quarter = NonZeroUsize::new((most / 4).max(FEW).min(most));
    Ok(given.or(quarter).unwrap_or(NonZeroUsize::MIN))
}

/// Room for some bodies of the largest size, also in the part for strangers.
fn body_total(section: &mut Section<'_>, max_body: Option<usize>) -> Result<usize, Reported> {
    let least = max_body.map_or(1, |max_body| max_body * STRANGERS);
    section.need_as("max_body_total", |Size(bytes): Size| {
        let bytes = usize::try_from(bytes).ok();
        let bytes = bytes.filter(|bytes| (least..=LARGEST_TOTAL).contains(bytes));
        bytes.ok_or_else(|| format!("must be from {STRANGERS} times max_body to 64GiB"))
    })
}

/// From 1 to `most`.
pub(in crate::config) fn within(most: usize) -> impl Fn(u64) -> Result<NonZeroUsize, String> {
    move |number| {
        let number = usize::try_from(number).ok().filter(|number| *number <= most);
        number.and_then(NonZeroUsize::new).ok_or_else(|| format!("must be from 1 to {most}"))
    }
}

/// A path that a Unix socket can have.
pub(in crate::config) fn socket(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Err(format!("is too long for a socket: at most {LONGEST_SOCKET} bytes"));
    }
    Ok(path)
}

fn public_url(url: Url) -> Result<Url, String> {
    if url.scheme() != "https" {
        return Err("must begin with https://: Altinn sends to nothing else".to_owned());
    }
    address::bare(&url)?;
    if url.as_str().contains("hooks.slack.com") {
        return Err("must not contain hooks.slack.com: Altinn sends no events there".to_owned());
    }
    Ok(address::without_slash(url))
}

fn max_body(Size(bytes): Size) -> Result<usize, String> {
    let bytes =
        usize::try_from(bytes).ok().filter(|bytes| (SMALLEST_BODY..=LARGEST_BODY).contains(bytes));
    bytes.ok_or_else(|| {
        "must be from 1kB to 1MiB: no event of Altinn's is sure to fit into less".to_owned()
    })
}

fn tls(section: &mut Section<'_>, host: Option<String>) -> Result<Option<Tls>, Reported> {
    const RIGHT: &str = "must be { certificate_file = \"…\", key_file = \"…\" }, or \"off\" behind \
                         a proxy";
    let Some(value) = section.take("tls") else {
        return Err(section.fault("tls", format!("is missing: {RIGHT}")));
    };
    if matches!(&value.kind, ValueKind::String(word) if word == "off") {
        return Ok(None);
    }
    if !matches!(value.kind, ValueKind::Table(_)) {
        return Err(section.fault("tls", RIGHT));
    }
    let mut tls = section.below("tls", "tls", value)?;
    let certificate_file = tls.need_path("certificate_file", "is missing: name the chain's file");
    let key_file = tls.need_secret("key_file", "is missing: name the key's file");
    let both = certificate_file.and_then(|certificate_file| {
        let found = Tls { certificate_file, key_file: key_file? };
        tls.names_here(Role::Certificate { tls: found.clone(), host });
        Ok(Some(found))
    });
    tls.finish();
    both
}
