//! A newcomer's afternoon: each of these is told by `check` with the key's path, the file and what to do, and by `run` in the
//! same words.

use base64::{Engine, prelude::BASE64_STANDARD};
use brevdue::simulator::ca;

use super::{
    desk::{Desk, block, jwk, short_key, utf16, version_1},
    limits::LIMITS,
    misplaced::MISPLACED,
    silent::SILENT,
    strange::STRANGE,
};

/// What is done to a good desk; the key and the file that must be named, and words of the cure.
pub(super) type Broken = (&'static str, fn(&Desk), &'static str, &'static str, &'static str);

const CHAIN: &str = "tls/fullchain.pem";
const KEY: &str = "tls/privkey.pem";
const CLIENT: &str = "maskinporten.pem";

#[rustfmt::skip]
const TLS: [Broken; 16] = [
    ("files joined without a line break", |desk| {
        let chain = desk.read(CHAIN);
        desk.write(CHAIN, chain.replace("-----\n-----BEGIN", "----------BEGIN"));
    }, "server.tls.certificate_file", CHAIN, "put a line break between them"),
    ("a chain whose second certificate is damaged", |desk| {
        let chain = desk.read(CHAIN);
        let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        desk.write(CHAIN, format!("{leaf}{}", block("CERTIFICATE", b"hunter2 hunter2")));
    }, "server.tls.certificate_file", CHAIN, "number 2 of 2) that is damaged: get it anew"),
    ("a chain that is cut off", |desk| {
        let chain = desk.read(CHAIN);
        desk.write(CHAIN, &chain[..chain.len() - 40]);
    }, "server.tls.certificate_file", CHAIN, "it is cut off, get it anew"),
    ("the authority before the leaf", |desk| {
        let (chain, authority) = (desk.read(CHAIN), desk.ca.ca_pem());
        desk.write(CHAIN, format!("{authority}{chain}"));
    }, "server.tls.certificate_file", CHAIN, "put it first"),
    ("a key of another certificate", |desk| {
        desk.write(KEY, desk.ca.issue(&["localhost"]).unwrap().1);
    }, "server.tls.certificate_file", KEY, "name the two that were issued together"),
    ("a certificate of version 1", |desk| {
        let chain = desk.read(CHAIN);
        desk.write(CHAIN, version_1(&chain));
    }, "server.tls.certificate_file", CHAIN, "have one of version 3 issued"),
    ("the request in place of the certificate", |desk| {
        desk.write(CHAIN, block("CERTIFICATE REQUEST", b"x"));
    }, "server.tls.certificate_file", CHAIN, "name what it answered with"),
    ("a certificate in DER", |desk| {
        let chain = desk.read(CHAIN);
        desk.write(CHAIN, brevdue::crypto::pem::blocks(&chain).unwrap().remove(0).der);
    }, "server.tls.certificate_file", CHAIN, "openssl x509 -inform DER"),
    ("no certificate at all", |desk| desk.remove(CHAIN),
        "server.tls.certificate_file", CHAIN, "put it there, or correct the path"),
    ("a key of 1024 bits", |desk| desk.write(KEY, short_key()),
        "server.tls.key_file", KEY, "RSA needs 2048 bits): make a new one"),
    ("a key under a password", |desk| desk.write(KEY, block("ENCRYPTED PRIVATE KEY", b"x")),
        "server.tls.key_file", KEY, "openssl pkey -in"),
    ("a key under a password, in the old form", |desk| {
        desk.write(KEY, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END RSA PRIVATE KEY-----\n");
    }, "server.tls.key_file", KEY, "openssl pkey -in"),
    ("PKCS#12", |desk| desk.write(KEY, b"\x30\x82\x09\x11\x02\x01\x03\x30\x82"),
        "server.tls.key_file", KEY, "openssl pkcs12 -in"),
    ("a key of OpenSSH's", |desk| desk.write(KEY, block("OPENSSH PRIVATE KEY", b"x")),
        "server.tls.key_file", KEY, "ssh-keygen -p"),
    ("a key with its line breaks as \\n", |desk| {
        let key = desk.read(KEY).replace('\n', "\\n");
        desk.write(KEY, key);
    }, "server.tls.key_file", KEY, "make real ones"),
    ("two keys in one file", |desk| {
        let key = desk.read(KEY);
        desk.write(KEY, key.repeat(2));
    }, "server.tls.key_file", KEY, "leave one"),
];

#[rustfmt::skip]
const ALTINN: [Broken; 11] = [
    ("a JWK in base64", |desk| {
        let jwk = jwk(&desk.read(CLIENT), "brevdue-1").to_string();
        desk.write(CLIENT, BASE64_STANDARD.encode(jwk));
    }, "altinn.maskinporten.key_file", CLIENT, "base64 -d"),
    ("a JWK of another id", |desk| {
        let jwk = jwk(&desk.read(CLIENT), "brevdue-2").to_string();
        desk.write(CLIENT, jwk);
    }, "altinn.maskinporten.key_id", CLIENT, "kid is \"brevdue-2\""),
    ("a set of JWKs", |desk| desk.write(CLIENT, r#"{"keys":[]}"#),
        "altinn.maskinporten.key_file", CLIENT, "leave one JWK alone"),
    ("the public half of a JWK", |desk| desk.write(CLIENT, r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#),
        "altinn.maskinporten.key_file", CLIENT, "name the private one"),
    ("a public key", |desk| desk.write(CLIENT, ca::client_key().unwrap().public_pem),
        "altinn.maskinporten.key_file", CLIENT, "name the file with the private half"),
    ("a key on a curve", |desk| desk.write(CLIENT, desk.read(KEY)),
        "altinn.maskinporten.key_file", CLIENT, "openssl genrsa"),
    ("a short key", |desk| desk.write(CLIENT, short_key()),
        "altinn.maskinporten.key_file", CLIENT, "make one of 2048 bits"),
    ("a key without a name", |desk| desk.edit("key_id = \"brevdue-1\"", ""),
        "altinn.maskinporten.key_id", CLIENT, "set key_id to the id that it is registered under"),
    ("an enterprise certificate of another key", |desk| {
        desk.edit("key_id = \"brevdue-1\"", "certificate_file = \"tls/fullchain.pem\"");
    }, "altinn.maskinporten.certificate_file", CHAIN, "name the two that belong together"),
    ("a web page as authority", |desk| desk.write("ca.pem", "<!DOCTYPE html><html>"),
        "altinn.ca_file", "ca.pem", "fetch it anew"),
    ("a gateway key of two lines", |desk| desk.write("apim-key", "one\ntwo\n"),
        "altinn.api_key_file", "apim-key", "put the key alone on its first line"),
];

#[rustfmt::skip]
const SECRETS: [Broken; 8] = [
    ("an empty token", |desk| desk.write("admin-token", "\n"),
        "admin.token_file", "admin-token", "put the secret into it"),
    ("a short token", |desk| desk.write("other-token", "kort"),
        "sources.other.auth.bearer_file", "other-token", "openssl rand"),
    ("a signing key without its prefix", |desk| desk.write("signed-key", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "sources.signed.auth.standard_webhooks_file", "signed-key", "take what the sender shows"),
    ("a secret in UTF-16", |desk| desk.write("innboks-secret", utf16("a-secret-of-some-length")),
        "subscriptions.innboks.secret_file", "innboks-secret", "save it as UTF-8"),
    ("a secret with a space", |desk| desk.write("innboks-secret", "a secret of some length"),
        "subscriptions.innboks.secret_file", "innboks-secret", "one secret a line"),
    ("a folder in place of a secret", |desk| desk.edit("\"innboks-secret\"", "\"tls\""),
        "subscriptions.innboks.secret_file", "/tls", "name a file in it"),
    ("a pipe in place of a secret", |desk| {
        desk.remove("other-token");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, desk.path("other-token"), kind, 0o600.into(), 0).unwrap();
    }, "sources.other.auth.bearer_file", "other-token", "name the file itself"),
    ("a secret that is missing", |desk| desk.remove("signed-key"),
        "sources.signed.auth.standard_webhooks_file", "signed-key", "put it there"),
];

#[rustfmt::skip]
const PLACES: [Broken; 6] = [
    ("a script with the line ends of Windows", |desk| {
        desk.write("program", "#!/bin/sh\r\ncat\r\n");
        desk.mode("program", 0o755);
    }, "handlers.skript.command", "program", "dos2unix"),
    ("a script that cannot be run", |desk| desk.mode("program", 0o644),
        "handlers.skript.command", "program", "chmod 755"),
    ("a program that is missing", |desk| desk.remove("program"),
        "handlers.skript.command", "program", "correct the path"),
    ("a file in place of data_dir", |desk| desk.write("data", ""),
        "data_dir", "data", "name another path"),
    ("a file in place of the socket", |desk| desk.write("admin.sock", "precious"),
        "admin.socket", "admin.sock", "name another path"),
    ("a folder in place of a file", |desk| desk.edit("\"events.jsonl\"", "\"tls\""),
        "handlers.logg.path", "/tls", "name a file in it"),
];

#[rustfmt::skip]
const TEXTS: [Broken; 9] = [
    ("a misspelt key", |desk| desk.edit("listen", "lisen"),
        "server.lisen", "brevdue.toml", "did you mean listen?"),
    ("a key of another table", |desk| desk.edit("[server]", "[server]\nlevel = \"info\""),
        "server.level", "brevdue.toml", "take it out"),
    ("a password", |desk| desk.edit("client_id", "client_secret = \"hunter2 hunter2\"\nclient_id"),
        "altinn.maskinporten.client_secret", "brevdue.toml", "put it in a file"),
    ("a number without its unit", |desk| desk.edit("[server]", "shutdown_grace = 30\n[server]"),
        "shutdown_grace", "brevdue.toml", "\"30s\""),
    ("an address twice", |desk| desk.edit("127.0.0.1:0\"", "127.0.0.1:8443\", \"127.0.0.1:8443\""),
        "server.listen", "brevdue.toml", "take one out"),
    ("one port for both", |desk| {
        desk.edit("127.0.0.1:0", "127.0.0.1:8443");
        desk.edit("[admin]", "[admin]\nlisten = \"127.0.0.1:8443\"");
    }, "admin.listen", "brevdue.toml", "its own port"),
    ("a person's number", |desk| desk.edit("999888777", "01017012345"),
        "subscriptions.innboks.subject", "brevdue.toml", "urn:altinn:person:identifier-no:NUMBER"),
    ("the quotes of a word processor", |desk| desk.edit("\"data\"", "\u{201c}data\u{201d}"),
        "line 1, column", "brevdue.toml", "string values must be quoted"),
    ("a configuration in UTF-16", |desk| {
        let text = utf16(&desk.read("brevdue.toml"));
        desk.write("brevdue.toml", text);
    }, "brevdue.toml", "brevdue.toml", "save it as UTF-8"),
];

/// What both commands say, which is the same.
fn told(desk: &Desk, what: &str) -> String {
    let [check, run] = ["check", "run"].map(|command| {
        let output = desk.command(&[command]);
        assert_eq!(output.status.code(), Some(78), "{what}: {command}: {output:?}");
        assert!(output.stdout.is_empty(), "{what}: {command}");
        String::from_utf8(output.stderr).expect("text")
    });
    assert_eq!(check, run, "{what}");
    check
}

#[test]
fn a_good_desk_is_good_without_a_word_more() {
    let desk = Desk::new();
    let output = desk.command(&["check"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(!desk.path("data").exists(), "a check makes nothing");
}

#[test]
fn each_broken_configuration_is_told_with_its_key_its_file_and_its_cure() {
    let ours = TLS.iter().chain(&ALTINN).chain(&SECRETS).chain(&PLACES).chain(&TEXTS);
    let all = ours.chain(&STRANGE).chain(&SILENT).chain(&LIMITS).chain(&MISPLACED);
    for (what, break_it, key, file, cure) in all {
        let desk = Desk::new();
        break_it(&desk);
        let told = told(&desk, what);
        for words in [key, file, cure] {
            assert!(told.contains(words), "{what}: {words:?} is not in\n{told}");
        }
        assert!(!told.contains("hunter2"), "{what}:\n{told}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_text_and_in_the_files() {
    let desk = Desk::new();
    desk.edit("listen", "lisen");
    desk.edit("client_id = \"3fa85f64-5717-4562-b3fc-2c963f66afa6\"", "");
    for name in [CHAIN, KEY, CLIENT, "ca.pem", "admin-token", "innboks-secret", "other-token"] {
        desk.write(name, "hunter2");
    }
    for name in ["signed-key", "apim-key", "program"] {
        desk.remove(name);
    }
    desk.write("data", "");
    let told = told(&desk, "all");
    for key in [
        "data_dir",
        "server.lisen",
        "server.tls.certificate_file",
        "server.tls.key_file",
        "admin.token_file",
        "altinn.ca_file",
        "altinn.api_key_file",
        "altinn.maskinporten.client_id",
        "altinn.maskinporten.key_file",
        "subscriptions.innboks.secret_file",
        "sources.other.auth.bearer_file",
        "sources.signed.auth.standard_webhooks_file",
        "handlers.skript.command",
    ] {
        assert_eq!(told.matches(&format!("\n  {key}: ")).count(), 1, "{key}:\n{told}");
    }
    assert!(told.contains("13 faults") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_credential_that_only_the_service_has_is_said_by_check_and_ends_the_run() {
    let desk = Desk::new();
    desk.edit("\"maskinporten.pem\"", "\"credential:maskinporten-key\"");
    desk.edit("\"tls/privkey.pem\"", "\"credential:tls-key\"");
    let check = desk.command(&["check"]);
    assert!(check.status.success(), "{check:?}");
    let said = String::from_utf8(check.stderr).unwrap();
    let run = desk.command(&["run"]);
    assert_eq!(run.status.code(), Some(78));
    let told = String::from_utf8(run.stderr).unwrap();
    for key in ["altinn.maskinporten.key_file: credential:", "server.tls.key_file: credential:"] {
        assert!(said.contains(&format!("not looked at: {key}")), "{said}");
        assert!(told.contains(key), "{told}");
    }
    // What can be looked at is, all the same.
    desk.write(CHAIN, "hunter2");
    let said = told_by_check(&desk);
    for words in ["  server.tls.certificate_file: ", "not looked at: server.tls.key_file: "] {
        assert!(said.contains(words), "{said}");
    }
}

fn told_by_check(desk: &Desk) -> String {
    let output = desk.command(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_odd_but_works_is_warned_of() {
    let desk = Desk::new();
    let (chain, key) = desk.ca.issue(&["other.example"]).unwrap();
    desk.write(CHAIN, chain);
    desk.write(KEY, key);
    for (name, mode) in
        [("innboks-secret", 0o644), ("admin-token", 0o604), (KEY, 0o444), (CLIENT, 0o660)]
    {
        desk.mode(name, mode);
    }
    let output = desk.command(&["check"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    for (key, words) in [
        ("subscriptions.innboks.secret_file", "mode 0644"),
        ("admin.token_file", "mode 0604"),
        ("server.tls.key_file", "mode 0444"),
        ("altinn.maskinporten.key_file", "mode 0660"),
        ("server.tls.certificate_file", "is not for localhost"),
    ] {
        let line = |line: &&str| {
            line.starts_with("warning: ") && line.contains(key) && line.contains(words)
        };
        assert_eq!(said.lines().filter(line).count(), 1, "{key} {words}:\n{said}");
    }
}
