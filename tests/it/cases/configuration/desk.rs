//! A configuration that names a file of every sort, all of them good, to be broken by a test.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Output,
    sync::LazyLock,
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use brevdue::{
    crypto::{der, pem},
    simulator::ca::{self, Ca},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon;

pub(super) struct Desk {
    folder: TempDir,
    pub(super) ca: Ca,
}

impl Desk {
    pub(super) fn new() -> Self {
        let desk =
            Self { folder: tempfile::tempdir().expect("a folder"), ca: Ca::new().expect("a CA") };
        let (chain, key) = desk.ca.issue(&["localhost"]).expect("a certificate");
        fs::create_dir(desk.path("tls")).expect("a folder");
        desk.write("tls/fullchain.pem", &chain);
        desk.write("tls/privkey.pem", &key);
        desk.write("ca.pem", desk.ca.ca_pem());
        desk.write("maskinporten.pem", client_key());
        desk.write("admin-token", "an-admin-token-0001\n");
        desk.write("innboks-secret", "a-secret-of-some-length\n");
        desk.write("other-token", "other-token-0123456789\n");
        desk.write("signed-key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        desk.write("apim-key", "0123456789abcdef\n");
        desk.write("program", "#!/bin/sh\ncat >/dev/null\n");
        desk.mode("program", 0o755);
        desk.write("brevdue.toml", configuration(&desk.path("program")));
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// Readable for its owner only.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        use std::io::Write;
        let mut options = fs::OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name));
        file.and_then(|mut file| file.write_all(content.as_ref())).expect("a file");
    }

    pub(super) fn mode(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path(name), mode).expect("a file");
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("a file");
    }

    /// Changes the configuration.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let before = self.read("brevdue.toml");
        let after = before.replacen(from, to, 1);
        assert_ne!(before, after, "nothing to change");
        self.write("brevdue.toml", after);
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Output {
        daemon::command(&self.path("brevdue.toml"), arguments)
    }
}

/// Made once: it takes a while.
fn client_key() -> &'static str {
    static KEY: LazyLock<String> = LazyLock::new(|| ca::client_key().expect("a key").private_pem);
    &KEY
}

fn configuration(program: &Path) -> String {
    format!(
        r#"data_dir = "data"

[server]
listen = ["127.0.0.1:0"]
public_url = "https://localhost:8443"
tls = {{ certificate_file = "tls/fullchain.pem", key_file = "tls/privkey.pem" }}

[admin]
socket = "admin.sock"
token_file = "admin-token"

[altinn]
environment = "custom"
platform_url = "http://127.0.0.1:9"
maskinporten_issuer = "http://127.0.0.1:9/"
ca_file = "ca.pem"
api_key_file = "apim-key"

[altinn.maskinporten]
client_id = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
key_file = "maskinporten.pem"
key_id = "brevdue-1"

[subscriptions.innboks]
resource = "nabovarsel"
subject = "999888777"
secret_file = "innboks-secret"

[sources.other]
auth = {{ bearer_file = "other-token" }}

[sources.signed]
auth = {{ standard_webhooks_file = "signed-key" }}

[handlers.skript]
kind = "exec"
command = [{program:?}]

[handlers.logg]
kind = "file"
path = "events.jsonl"
"#
    )
}

/// PEM of any bytes.
pub(super) fn block(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// The same key as a JWK.
pub(super) fn jwk(pkcs8: &str, id: &str) -> Value {
    let pkcs8 = pem::blocks(pkcs8).expect("PEM").remove(0).der;
    let key = der::Reader(&pkcs8).next().expect("PKCS#8").inner().last().expect("PKCS#1");
    let numbers = der::Reader(key.content).next().expect("PKCS#1").inner().skip(1);
    let mut jwk = json!({"kty": "RSA", "kid": id});
    for (name, number) in ["n", "e", "d", "p", "q", "dp", "dq", "qi"].into_iter().zip(numbers) {
        let digits = number.content.strip_prefix(&[0]).unwrap_or(number.content);
        jwk[name] = BASE64_URL_SAFE_NO_PAD.encode(digits).into();
    }
    jwk
}

/// As much of a key of 1024 bits as is looked at before it is refused.
pub(super) fn short_key() -> String {
    let numbers = [&[0][..], &[0xff; 128], &[1, 0, 1], &[0x7f; 128], &[0xff; 64], &[0xff; 64]];
    block("RSA PRIVATE KEY", &der::sequence(&numbers.map(der::unsigned)))
}

/// The same certificate as it would be without what version 3 brought.
pub(super) fn version_1(certificate: &str) -> String {
    let der = pem::blocks(certificate).expect("PEM").remove(0).der;
    let whole = der::Reader(&der).next().expect("a certificate");
    let mut parts: Vec<Vec<u8>> = whole.inner().map(|part| part.whole.to_vec()).collect();
    let body = der::Reader(&parts[0]).next().expect("a body");
    let fields: Vec<Vec<u8>> = body.inner().map(|field| field.whole.to_vec()).collect();
    parts[0] = der::sequence(&fields[1..fields.len() - 1]);
    block("CERTIFICATE", &der::sequence(&parts))
}

/// As an editor on Windows may save it.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}
