//! `[altinn]` and `[altinn.maskinporten]`.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::{address, bounds::interval};
use crate::{
    config::{
        files::{KeyName, Role},
        read::section::{Reported, Section},
    },
    secret::SecretFile,
};

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
    /// Where grants go, whatever the issuer's metadata says.
    pub token_endpoint: Option<Url>,
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

/// Without it Altinn registers nothing.
const SUBSCRIBE: &str = "altinn:events.subscribe";

/// Where an environment is.
#[derive(Clone, Copy)]
enum Environment {
    /// Altinn's own: platform and issuer.
    Fixed(&'static str, &'static str),
    /// As configured.
    Custom,
}

const KEY_MISSING: &str = "is missing: name the file with the client's private RSA key";

const PRODUCTION: &str = "https://maskinporten.no/";
const TEST: &str = "https://test.maskinporten.no/";
const ENVIRONMENTS: [(&str, Environment); 6] = [
    ("prod", Environment::Fixed("https://platform.altinn.no", PRODUCTION)),
    ("tt02", Environment::Fixed("https://platform.tt02.altinn.no", TEST)),
    ("at22", Environment::Fixed("https://platform.at22.altinn.cloud", TEST)),
    ("at23", Environment::Fixed("https://platform.at23.altinn.cloud", TEST)),
    ("yt01", Environment::Fixed("https://platform.yt01.altinn.cloud", TEST)),
    ("custom", Environment::Custom),
];

/// What the environment decides.
struct Place {
    platform_url: Url,
    maskinporten_issuer: String,
    ca_file: Option<PathBuf>,
}

pub(in crate::config) fn altinn(mut section: Section<'_>) -> Result<Altinn, Reported> {
    let place = place(&mut section);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let reconcile_interval = section.optional_as("reconcile_interval", interval);
    let feed_interval = section.optional_as("feed_interval", interval);
    let overlap = section.or("overlap", minutes(65));
    let self_proof = section.or("self_proof", true);
    let api_key_file = section.secret("api_key_file");
    if let Ok(Some(file)) = &api_key_file {
        section.names("api_key_file", Role::GatewayKey(file.clone()));
    }
    let maskinporten = match section.section("maskinporten") {
        Ok(Some(table)) => maskinporten(table),
        Ok(None) => Err(section.fault(
            "maskinporten",
            "is missing: client_id, key_file and the key's name are needed to sign in",
        )),
        Err(reported) => Err(reported),
    };
    section.finish();
    let place = place?;
    Ok(Altinn {
        platform_url: place.platform_url,
        maskinporten_issuer: place.maskinporten_issuer,
        ca_file: place.ca_file,
        reconcile_interval: reconcile_interval?.unwrap_or(minutes(10)),
        feed_interval: feed_interval?.unwrap_or(minutes(10)),
        overlap: overlap?,
        self_proof: self_proof?,
        api_key_file: api_key_file?,
        maskinporten: maskinporten?,
    })
}

fn place(section: &mut Section<'_>) -> Result<Place, Reported> {
    let environment = section.choice("environment", &ENVIRONMENTS);
    let platform_url = section.optional_as("platform_url", |url| {
        address::encrypted_or_local(url).map(address::without_slash)
    });
    let issuer = section.optional_as("maskinporten_issuer", issuer);
    let ca_file = section.path("ca_file");
    if let Ok(Some(file)) = &ca_file {
        section.names("ca_file", Role::Authorities(file.clone()));
    }
    match environment? {
        None => Err(section.fault("environment", "is missing: prod, tt02, … or custom")),
        Some(Environment::Custom) => {
            let needed = |key| section.fault(key, "is missing: environment = \"custom\" needs it");
            let platform_url = platform_url?.ok_or_else(|| needed("platform_url"));
            let issuer = issuer?.ok_or_else(|| needed("maskinporten_issuer"));
            let (platform_url, maskinporten_issuer) = (platform_url?, issuer?);
            Ok(Place { platform_url, maskinporten_issuer, ca_file: ca_file? })
        }
        Some(Environment::Fixed(platform, issuer_of_it)) => {
            let stray = |key| section.fault(key, "is only for environment = \"custom\"");
            let (platform_url, issuer) = (platform_url?, issuer?);
            let strays = [
                platform_url.map(|_| stray("platform_url")),
                issuer.map(|_| stray("maskinporten_issuer")),
                ca_file?.map(|_| stray("ca_file")),
            ];
            if let Some(reported) = strays.into_iter().flatten().next() {
                return Err(reported);
            }
            let platform_url = Url::parse(platform)
                .map_err(|fault| section.fault("environment", fault.to_string()))?;
            let maskinporten_issuer = issuer_of_it.to_owned();
            Ok(Place { platform_url, maskinporten_issuer, ca_file: None })
        }
    }
}

/// The identifier is compared as text, so it is kept as text.
fn issuer(text: String) -> Result<String, String> {
    let url = Url::parse(&text).map_err(|_| "must be a whole URL".to_owned())?;
    address::encrypted_or_local(url)?;
    if !text.ends_with('/') {
        return Err("must end in '/': it is the issuer's identifier, slash included".to_owned());
    }
    Ok(text)
}

fn maskinporten(mut section: Section<'_>) -> Result<Maskinporten, Reported> {
    let client_id = section.need("client_id");
    let key_file = section.need_secret("key_file", KEY_MISSING);
    let key_name = key_name(&mut section);
    if let (Ok(file), Ok(name)) = (&key_file, &key_name) {
        section.names_here(Role::Client(file.clone(), name.clone()));
    }
    let scopes = section.optional_as("scopes", scopes);
    let system_user =
        section.section("system_user").and_then(|table| table.map(system_user).transpose());
    let consumer_org = section.optional_as("consumer_org", org);
    let resource = section.optional("resource");
    let token_endpoint = section.optional_as("token_endpoint", address::encrypted_or_local);
    section.finish();
    Ok(Maskinporten {
        client_id: client_id?,
        key_file: key_file?,
        key_name: key_name?,
        scopes: scopes?.unwrap_or_else(|| vec![SUBSCRIBE.to_owned()]),
        system_user: system_user?,
        consumer_org: consumer_org?,
        resource: resource?.unwrap_or_default(),
        token_endpoint: token_endpoint?,
    })
}

/// Maskinporten takes exactly one of the two. A JWK may have its name in it.
fn key_name(section: &mut Section<'_>) -> Result<KeyName, Reported> {
    let id = section.optional("key_id");
    let certificate = section.path("certificate_file");
    match (id?, certificate?) {
        (Some(id), None) => Ok(KeyName::Id(id)),
        (None, Some(file)) => Ok(KeyName::Certificate(file)),
        (None, None) => Ok(KeyName::OfKey),
        (Some(_), Some(_)) => Err(section.fault(
            "certificate_file",
            "cannot be beside key_id: a key is registered, or shown by a certificate",
        )),
    }
}

fn scopes(scopes: Vec<String>) -> Result<Vec<String>, String> {
    if scopes.iter().any(|scope| scope.contains(char::is_whitespace)) {
        return Err("must have one scope in each item, without white space".to_owned());
    }
    if !scopes.iter().any(|scope| scope == SUBSCRIBE) {
        return Err(format!("must have {SUBSCRIBE}: Altinn registers nothing without it"));
    }
    Ok(scopes)
}

fn system_user(mut section: Section<'_>) -> Result<SystemUser, Reported> {
    let org = section.need_as("org", org);
    let external_ref = section.optional("external_ref");
    let system_id = section.optional("system_id");
    section.finish();
    Ok(SystemUser { org: org?, external_ref: external_ref?, system_id: system_id? })
}

fn org(org: String) -> Result<String, String> {
    if org.len() == 9 && org.bytes().all(|c| c.is_ascii_digit()) {
        Ok(org)
    } else {
        Err("must be an organisation number: nine digits, without 0192:".to_owned())
    }
}
