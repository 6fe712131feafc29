//! A folder in which a daemon can be started against a running stand-in: certificates, a client
//! key, a configuration.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    Running,
    ca::{Ca, RsaKey},
    options::{Client, ClientKey, Decision, Options},
};

/// The names every certificate of the demo is for.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The client of the demo: an organisation of the test register.
pub const ORG: &str = "314249879";
/// The resource of the demo.
pub const RESOURCE: &str = "urn:altinn:resource:nabovarsel";
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
pub fn write_workspace(
    dir: &Path,
    running: &Running,
    credentials: &Credentials,
    daemon: Daemon<'_>,
) -> anyhow::Result<PathBuf> {
    let (chain, key) = credentials.ca.issue(&LOCAL_NAMES)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("tls"))?;
    write(&dir.join("ca.pem"), credentials.ca.ca_pem())?;
    write(&dir.join("tls/fullchain.pem"), &chain)?;
    write(&dir.join("tls/privkey.pem"), &key)?;
    write(&dir.join("maskinporten.pem"), &credentials.key.private_pem)?;
    let path = dir.join("brevdue.toml");
    write(&path, &configuration(running, daemon))?;
    Ok(path)
}

fn configuration(running: &Running, daemon: Daemon<'_>) -> String {
    let Daemon { listen, handlers, settings } = daemon;
    let (platform, issuer) = (&running.base_url, running.maskinporten_issuer());
    let port = listen.port();
    format!(
        r#"data_dir = "data"
{settings}
[server]
listen = ["{listen}"]
public_url = "https://localhost:{port}"
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

/// Readable for its owner only, since keys are among them.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let result = file.and_then(|mut file| file.write_all(text.as_bytes()));
    result.with_context(|| format!("cannot write {}", path.display()))
}
