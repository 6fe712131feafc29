//! A folder in which a daemon can be started against a running stand-in: certificates, a client
//! key, a configuration.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use super::{
    Running,
    ca::{Ca, RsaKey},
    options::{Client, ClientKey, Decision, Options},
};
use crate::crypto::fingerprint::fingerprint;

/// What stands in the first line of a configuration that was written here, before the fingerprint
/// of the rest.
const MARK: &str = "# Written by `brevdue simulator`, which leaves a changed file alone: ";
/// The files beside it that hold secrets.
const KEYS: [&str; 2] = ["tls/privkey.pem", "maskinporten.pem"];

/// What a folder has before it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing of a workspace.
    Nothing,
    /// A configuration as it was written here.
    Ours,
    /// One that was written here, and changed since.
    Changed,
    /// A configuration or keys that are another's.
    Anothers,
}

/// Looks what a folder has.
pub fn found(dir: &Path) -> anyhow::Result<Found> {
    let path = dir.join(CONFIGURATION);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = KEYS.iter().any(|key| dir.join(key).exists());
            return Ok(if keys { Found::Anothers } else { Found::Nothing });
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Some((mark, rest)) = text.split_once('\n') else { return Ok(Found::Anothers) };
    Ok(match mark.strip_prefix(MARK) {
        None => Found::Anothers,
        Some(of) if of == fingerprint([Some(rest)]) => Found::Ours,
        Some(_) => Found::Changed,
    })
}

/// The names that a certificate is for if its server listens on `address`.
pub fn names(address: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = LOCAL_NAMES.map(str::to_owned).to_vec();
    let own = address.to_string();
    if !names.contains(&own) {
        names.push(own);
    }
    names
}

/// The names every certificate of the demo is for.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The client of the demo: an organisation of the test register.
pub const ORG: &str = "314249879";
/// The resource of the demo.
pub const RESOURCE: &str = "urn:altinn:resource:nabovarsel";
const CONFIGURATION: &str = "brevdue.toml";
const CLIENT_ID: &str = "0f1b9b6e-6f3a-4d0e-9f0c-0d2f4a7c1b11";
const KEY_ID: &str = "brevdue-demo";

/// What a stand-in and a daemon that trusts it have in common.
#[derive(Debug)]
pub struct Credentials {
    /// Vouches for both.
    pub ca: Ca,
    /// The client's.
    pub key: RsaKey,
}

impl Credentials {
    /// New ones.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { ca: Ca::new()?, key: super::ca::client_key()? })
    }

    /// A stand-in under TLS with one client of [`ORG`], which may subscribe to [`RESOURCE`].
    pub fn options(&self) -> anyhow::Result<Options> {
        let mut options = Options::new(self.ca.ca_pem().to_owned());
        options.tls = Some(self.ca.server_config(&LOCAL_NAMES)?);
        options.resources = vec![RESOURCE.to_owned()];
        options.decisions = Vec::<Decision>::new();
        options.clients = vec![Client {
            id: CLIENT_ID.to_owned(),
            org: ORG.to_owned(),
            scopes: vec!["altinn:events.subscribe".to_owned(), "altinn:events.publish".to_owned()],
            not_granted: Vec::new(),
            keys: vec![ClientKey {
                id: KEY_ID.to_owned(),
                public: self.key.public_pem.clone(),
                expired: false,
            }],
            certificates: Vec::new(),
            delegations: Vec::new(),
            system_users: Vec::new(),
        }];
        Ok(options)
    }
}

/// What the daemon in the folder is to do.
#[derive(Debug, Clone, Copy)]
pub struct Daemon<'d> {
    /// Where it takes pushes; the port must be known, since Altinn is told it.
    pub listen: SocketAddr,
    /// TOML of `[handlers.…]`, as it is to stand in the configuration.
    pub handlers: &'d str,
    /// TOML lines that go before all tables, such as `shutdown_grace`; may be empty.
    pub settings: &'d str,
}

/// Writes `ca.pem`, `tls/`, `maskinporten.pem` and `brevdue.toml` into `dir`; the path of the last.
/// A configuration that was changed since stays as it is, and what is another's is not touched.
pub fn write_workspace(
    dir: &Path,
    running: &Running,
    credentials: &Credentials,
    daemon: Daemon<'_>,
) -> anyhow::Result<PathBuf> {
    let found = found(dir)?;
    ensure!(
        found != Found::Anothers,
        "{} has a configuration or keys that are not a simulator's: choose another folder",
        dir.display()
    );
    let names = names(daemon.listen.ip());
    let (chain, key) =
        credentials.ca.issue(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("tls"))?;
    write(&dir.join("ca.pem"), credentials.ca.ca_pem())?;
    write(&dir.join("tls/fullchain.pem"), &chain)?;
    write(&dir.join("tls/privkey.pem"), &key)?;
    write(&dir.join("maskinporten.pem"), &credentials.key.private_pem)?;
    let path = dir.join(CONFIGURATION);
    if found != Found::Changed {
        let text = configuration(running, daemon);
        write(&path, &format!("{MARK}{}\n{text}", fingerprint([Some(&text)])))?;
    }
    Ok(path)
}

fn configuration(running: &Running, daemon: Daemon<'_>) -> String {
    let Daemon { listen, handlers, settings } = daemon;
    let (platform, issuer) = (&running.base_url, running.maskinporten_issuer());
    let public_url = public_url(listen);
    format!(
        r#"data_dir = "data"
{settings}
[server]
listen = ["{listen}"]
public_url = "{public_url}"
tls = {{ certificate_file = "tls/fullchain.pem", key_file = "tls/privkey.pem" }}

[admin]
socket = "admin.sock"

[altinn]
environment = "custom"
platform_url = "{platform}"
maskinporten_issuer = "{issuer}"
ca_file = "ca.pem"

[altinn.maskinporten]
client_id = "{CLIENT_ID}"
key_file = "maskinporten.pem"
key_id = "{KEY_ID}"
scopes = ["altinn:events.subscribe"]

[subscriptions.innboks]
resource = "{RESOURCE}"
subject = "{ORG}"

{handlers}
"#
    )
}

/// By the name that leads to the usual address, else by the address itself.
fn public_url(listen: SocketAddr) -> String {
    if listen.ip() == Ipv4Addr::LOCALHOST || listen.ip().is_unspecified() {
        format!("https://localhost:{}", listen.port())
    } else {
        format!("https://{listen}")
    }
}

/// Readable for its owner only, since keys are among them.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let result = file.and_then(|mut file| file.write_all(text.as_bytes()));
    result.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, path) = (folder.path(), folder.path().join(CONFIGURATION));
        assert_eq!(found(dir).unwrap(), Found::Nothing);
        fs::write(dir.join("maskinporten.pem"), "a key").unwrap();
        assert_eq!(found(dir).unwrap(), Found::Anothers);
        let text = "data_dir = \"data\"\n";
        let ours = format!("{MARK}{}\n{text}", fingerprint([Some(text)]));
        for (written, is) in [
            (ours.clone(), Found::Ours),
            (format!("{ours}# a comment\n"), Found::Changed),
            (ours.replace("data\"", "store\""), Found::Changed),
            (text.to_owned(), Found::Anothers),
            (format!("# mine\n{ours}"), Found::Anothers),
            (String::new(), Found::Anothers),
        ] {
            fs::write(&path, &written).unwrap();
            assert_eq!(found(dir).unwrap(), is, "{written}");
        }
    }

    #[test]
    fn the_public_url_leads_to_the_address() {
        for (listen, url) in [
            ("127.0.0.1:8443", "https://localhost:8443"),
            ("127.0.0.7:8443", "https://127.0.0.7:8443"),
            ("[::1]:8443", "https://[::1]:8443"),
            ("0.0.0.0:8443", "https://localhost:8443"),
        ] {
            assert_eq!(public_url(listen.parse().unwrap()), url);
        }
        assert!(names("127.0.0.7".parse().unwrap()).contains(&"127.0.0.7".to_owned()));
    }
}
