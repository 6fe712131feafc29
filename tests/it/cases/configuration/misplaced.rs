//! What stands in a place that is not for it, for the table of `broken`: secrets in place of their files' paths.

use super::broken::Broken;

const CLIENT: &str = "\"maskinporten.pem\"";
const CLIENT_KEY: &str = "altinn.maskinporten.key_file";
const WRITTEN: &str = "put it into a file and name the file";
const FILE: &str = "brevdue.toml";

#[rustfmt::skip]
pub(super) const MISPLACED: [Broken; 25] = [
    ("a JWK in place of its file", |desk| desk.edit(CLIENT, r#"'{"kty":"RSA","n":"AQAB","d":"hunter2"}'"#),
        CLIENT_KEY, FILE, WRITTEN),
    ("a JWK of several lines", |desk| desk.edit(CLIENT, "'''\n{\n  \"d\": \"hunter2\"\n}'''"),
        CLIENT_KEY, FILE, WRITTEN),
    ("a JWK in base64 in place of its file", |desk| desk.edit(CLIENT, "\"eyJrdHkiOiJSU0EiLCJkIjoihunter2\""),
        CLIENT_KEY, FILE, WRITTEN),
    ("PEM in one line", |desk| desk.edit(CLIENT, "'-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----'"),
        CLIENT_KEY, FILE, WRITTEN),
    ("PEM of several lines", |desk| desk.edit("\"tls/privkey.pem\"", "'''-----BEGIN PRIVATE KEY-----\nhunter2'''"),
        "server.tls.key_file", FILE, WRITTEN),
    ("a chain and its key", |desk| desk.edit("\"tls/fullchain.pem\"", "'-----BEGIN PRIVATE KEY-----hunter2'"),
        "server.tls.certificate_file", FILE, WRITTEN),
    ("an authority in place of its file", |desk| desk.edit("\"ca.pem\"", "'-----BEGIN CERTIFICATE-----hunter2'"),
        "altinn.ca_file", FILE, WRITTEN),
    ("a signing key in place of its file", |desk| desk.edit("\"signed-key\"", "\"whsec_hunter2GKYqrTwjUPD8ILPZIo2LaLaSw\""),
        "sources.signed.auth.standard_webhooks_file", FILE, WRITTEN),
    ("a token in place of its file", |desk| desk.edit("\"other-token\"", "\"hunter2MfKQ9r8GKYqrTwjU/PD8ILPZIo2La\""),
        "sources.other.auth.bearer_file", FILE, WRITTEN),
    ("a token with its word", |desk| desk.edit("\"other-token\"", "\"Bearer hunter2\""),
        "sources.other.auth.bearer_file", FILE, WRITTEN),
    ("a gateway key in place of its file", |desk| desk.edit("\"apim-key\"", "\"0a1b2c3d4e5f6a7bhunter29c8b7a6d5\""),
        "altinn.api_key_file", FILE, WRITTEN),
    ("a hook's secret in place of its file", |desk| desk.edit("\"innboks-secret\"", "\"hunter2hunter2hunter2hunter2\""),
        "subscriptions.innboks.secret_file", FILE, WRITTEN),
    ("a pass phrase in place of its file", |desk| desk.edit("\"admin-token\"", "\"hunter2 battery staple\""),
        "admin.token_file", FILE, WRITTEN),
    ("a secret that is longer than a name", |desk| desk.edit("\"admin-token\"", &format!("\"hunter2{}\"", "a".repeat(300))),
        "admin.token_file", FILE, WRITTEN),
    ("a credential in place of an authority", |desk| desk.edit("\"ca.pem\"", "\"credential:ca\""),
        "altinn.ca_file", FILE, "name the file by its path"),
    ("a credential in place of a chain", |desk| desk.edit("\"tls/fullchain.pem\"", "\"credential:chain\""),
        "server.tls.certificate_file", FILE, "name the file by its path"),
    ("no client", |desk| desk.edit("3fa85f64-5717-4562-b3fc-2c963f66afa6", ""),
        "altinn.maskinporten.client_id", FILE, "is empty: it must be set"),
    ("no resource", |desk| desk.edit("nabovarsel", ""),
        "subscriptions.innboks.resource", FILE, "is empty: it must be set"),
    ("no environment", |desk| desk.edit("custom", ""),
        "altinn.environment", FILE, "must be \"prod\" or"),
    ("no key", |desk| desk.edit("maskinporten.pem", ""),
        CLIENT_KEY, FILE, "is empty: name the file"),
    ("no address of a handler", |desk| desk.edit("kind = \"file\"\npath = \"events.jsonl\"", "kind = \"http\"\nurl = \"\""),
        "handlers.logg.url", FILE, "is empty: it must be set"),
    ("a path with a space after it", |desk| desk.edit("ca.pem", "ca.pem "),
        "altinn.ca_file", FILE, "white space: take it away"),
    ("a path with a tab in it", |desk| desk.edit("events.jsonl", "events\\t.jsonl"),
        "handlers.logg.path", FILE, "a line break: take it away"),
    ("no configuration", |desk| desk.remove(FILE),
        "there is no configuration file", FILE, "--config (a relative path begins at the working directory)"),
    ("a pipe as configuration", |desk| {
        desk.remove(FILE);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, desk.path(FILE), kind, 0o600.into(), 0).unwrap();
    }, "no regular file", FILE, "name the file itself"),
];
