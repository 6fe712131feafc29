//! More that an operator may break, for the table of `broken`: places of the kernel's, files that have another use, texts
//! that the parser refuses, addresses that nobody can call.

use std::{fs, os::unix::fs::symlink};

use super::{
    broken::Broken,
    desk::{Desk, jwk},
};

const CLIENT: &str = "maskinporten.pem";
const OUTPUT: &str = "handlers.logg.path";
const OWN: &str = "name a file that nothing else has";

fn output(desk: &Desk, path: &str) {
    desk.edit("\"events.jsonl\"", &format!("{path:?}"));
}

#[rustfmt::skip]
pub(super) const STRANGE: [Broken; 32] = [
    ("a data_dir of the kernel's", |desk| desk.edit("\"data\"", "\"/proc/brevdue\""),
        "data_dir", "/proc", "name another path"),
    ("a data_dir that is the kernel's", |desk| desk.edit("\"data\"", "\"/sys\""),
        "data_dir", "/sys", "name another path"),
    ("a socket among the kernel's files", |desk| desk.edit("\"admin.sock\"", "\"/sys/brevdue/admin.sock\""),
        "admin.socket", "/sys", "name another path"),
    ("a file in place of the store", |desk| {
        fs::create_dir(desk.path("data")).unwrap();
        desk.write("data/queue", "");
    }, "data_dir", "data/queue", "name another path"),
    ("a file in place of the made secrets", |desk| {
        fs::create_dir(desk.path("data")).unwrap();
        desk.write("data/secrets", "");
    }, "data_dir", "data/secrets", "name another path"),
    ("a data_dir that is a link to nowhere", |desk| symlink("nowhere", desk.path("data")).unwrap(),
        "data_dir", "data", "correct the path"),
    ("a file below a device", |desk| output(desk, "/dev/null/x"),
        OUTPUT, "/dev/null", "name another path"),
    ("a file of the kernel's", |desk| output(desk, "/proc/version"),
        OUTPUT, "/proc/version", "name a file"),
    ("the configuration as output", |desk| output(desk, "brevdue.toml"),
        OUTPUT, "brevdue.toml", OWN),
    ("the configuration as output, by a link", |desk| {
        symlink("brevdue.toml", desk.path("link")).unwrap();
        output(desk, "link");
    }, OUTPUT, "/link", OWN),
    ("a secret as output, by its other name", |desk| {
        fs::hard_link(desk.path("innboks-secret"), desk.path("events.jsonl")).unwrap();
    }, OUTPUT, "subscriptions.innboks.secret_file", OWN),
    ("a key as output", |desk| output(desk, "./tls/../maskinporten.pem"),
        OUTPUT, "altinn.maskinporten", OWN),
    ("the certificate as output", |desk| output(desk, "tls/fullchain.pem"),
        OUTPUT, "server.tls", OWN),
    ("a program as output", |desk| output(desk, "program"),
        OUTPUT, "handlers.skript.command", OWN),
    ("the subscriptions' history as output", |desk| output(desk, "data/altinn-state.json"),
        OUTPUT, "data/altinn-state.json", OWN),
    ("the socket as output", |desk| output(desk, "admin.sock"),
        OUTPUT, "admin.socket", OWN),
    ("one output for two", |desk| {
        let text = desk.read("brevdue.toml");
        desk.write("brevdue.toml", format!("{text}[handlers.to]\nkind = \"file\"\npath = \"./events.jsonl\"\n"));
    }, "handlers.to.path", OUTPUT, OWN),
    ("a JWK whose modulus is null", |desk| {
        let mut jwk = jwk(&desk.read(CLIENT), "brevdue-1");
        jwk["n"] = serde_json::Value::Null;
        desk.write(CLIENT, jwk.to_string());
    }, "altinn.maskinporten.key_file", CLIENT, "lacks n: export it anew"),
    ("a JWK without anything", |desk| desk.write(CLIENT, r#"{"kty":"RSA","n":null}"#),
        "altinn.maskinporten.key_file", CLIENT, "lacks n, e, d,"),
    ("a number that is too large", |desk| desk.edit("[server]", "[queue]\ndedup_max = 99999999999999999999\n[server]"),
        "queue.dedup_max", "brevdue.toml: line 4, column 13", "too large a number"),
    ("a fraction that is too large", |desk| {
        desk.edit("path = \"events.jsonl\"", "path = \"events.jsonl\"\nretry = { factor = 1e999 }");
    }, "handlers.logg.retry.factor", "brevdue.toml: line", "too large a number"),
    ("a key twice", |desk| desk.edit("[server]", "data_dir = \"other\"\n[server]"),
        "data_dir", "brevdue.toml: line 3, column 1", "take one out"),
    ("a table twice", |desk| desk.edit("[admin]", "[server]\n[admin]"),
        "server", "brevdue.toml: line", "take one out"),
    ("tables without end", |desk| {
        let text = desk.read("brevdue.toml");
        desk.write("brevdue.toml", format!("{text}[a{}]\n", ".a".repeat(300)));
    }, "line 4", "brevdue.toml", "no setting lies so deep"),
    ("a port that nobody can call", |desk| desk.edit("localhost:8443", "localhost:0"),
        "server.public_url", "brevdue.toml", "a port from 1 to 65535"),
    ("an escape that is none", |desk| desk.edit("localhost:8443", "localhost:8443/%zz"),
        "server.public_url", "brevdue.toml", "write %25"),
    ("an escape that is none, at the platform", |desk| desk.edit("\"http://127.0.0.1:9\"", "\"http://127.0.0.1:9/%\""),
        "altinn.platform_url", "brevdue.toml", "write %25"),
    ("a handler without a port", |desk| {
        let text = desk.read("brevdue.toml");
        desk.write("brevdue.toml", format!("{text}[handlers.nett]\nkind = \"http\"\nurl = \"http://127.0.0.1:0/\"\n"));
    }, "handlers.nett.url", "brevdue.toml", "a port from 1 to 65535"),
    ("an address inside another", |desk| desk.edit("127.0.0.1:0\"", "127.0.0.1:8443\", \"0.0.0.0:8443\""),
        "server.listen", "brevdue.toml", "take one out"),
    ("the admin API inside the hooks' addresses", |desk| {
        desk.edit("127.0.0.1:0", "[::]:8443");
        desk.edit("[admin]", "[admin]\nlisten = \"127.0.0.1:8443\"");
    }, "admin.listen", "brevdue.toml", "its own port"),
    ("a secret that is a link to itself", |desk| {
        desk.remove("innboks-secret");
        symlink("innboks-secret", desk.path("innboks-secret")).unwrap();
    }, "subscriptions.innboks.secret_file", "innboks-secret", "see what is wrong with the disk or the path"),
    ("a secret that is too large to be one", |desk| desk.write("other-token", "x".repeat(70_000)),
        "sources.other.auth.bearer_file", "other-token", "see that it is the right file"),
];
