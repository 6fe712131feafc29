//! What stands in a place that is not for it, for the table of `broken`: secrets in place of their files' paths.

use super::broken::Broken;

const CLIENT: &str = "\"maskinporten.pem\"";
const CLIENT_KEY: &str = "altinn.maskinporten.key_file";
const WRITTEN: &str = "put it into a file and name the file";
const FILE: &str = "brevdue.toml";

#[rustfmt::skip]
pub(super) const MISPLACED: [Broken; 14] = [
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
];
