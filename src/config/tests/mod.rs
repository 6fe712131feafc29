//! The whole of it: files, layers, and that every problem is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    error::{ConfigError, Problem},
    load::build,
    read::section::Reading,
    *,
};
use crate::{backoff::Backoff, name::HandlerName, queue::StartAt};

mod faults;
mod handler_faults;
mod layers;

const BASE: &str = "/etc/brevdue";
const FULL: &str = include_str!("../../../config/brevdue.toml");
const MINIMAL: &str = include_str!("../../../config/minimal.toml");

fn from(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new(BASE), &BTreeMap::new())
}

fn over(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::from_toml(text, Path::new(BASE), &environment.iter().map(owned).collect())
}

fn good(loaded: Result<Config, ConfigError>) -> Config {
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

fn problems(loaded: Result<Config, ConfigError>) -> Vec<Problem> {
    match loaded {
        Err(ConfigError::Invalid { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

fn handler<'a>(config: &'a Config, name: &str) -> &'a Handler {
    &config.handlers[&name.parse::<HandlerName>().unwrap()]
}

/// With every setting that is commented out: a '#' right before it.
fn switched_on(text: &str) -> String {
    let setting = |line: &str| {
        let inner = line.strip_prefix('#').filter(|inner| inner.starts_with(char::is_alphabetic));
        inner.unwrap_or(line).to_owned()
    };
    text.lines().map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_files_load_as_they_are_and_with_every_setting_switched_on() {
    good(from(MINIMAL));
    good(from(FULL));
    let on = switched_on(FULL);
    assert_ne!(on, FULL);
    let config = good(from(&on));
    assert_eq!(handler(&config, "arkiv").matches.resource.len(), 1);
}

#[test]
fn what_is_commented_out_as_a_default_is_the_default() {
    // Examples stand where there is no default; they are taken out of the comparison.
    const EXAMPLES: [&str; 19] = [
        "token_endpoint",
        "trusted_proxies",
        "allow_from =",
        "allow_from_mode",
        "consumer_org",
        "resource =",
        "listen = \"127",
        "token_file",
        "api_key_file",
        "system_user",
        "type =",
        "include_subunits",
        "secret_file",
        "allowed_origins",
        "match.source",
        "match.subject",
        "match.resource",
        "env =",
        "ca_file",
    ];
    let is_example =
        |line: &&str| EXAMPLES.iter().any(|key| line.trim_start_matches('#').starts_with(key));
    let text = switched_on(
        &FULL
            .lines()
            .filter(|line| !line.starts_with('#') || !is_example(line))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let meant = |text| {
        let mut config = good(from(text));
        // Which tables are written is another matter.
        config.origins = <_>::default();
        format!("{config:?}")
    };
    assert_eq!(meant(&text), meant(FULL));
}

#[test]
fn every_key_that_is_read_stands_in_the_shipped_file() {
    let everything = format!(
        "{}\n[sources.hooks]\nauth = {{ standard_webhooks_file = \"w\", tolerance = \"5m\" }}\n",
        switched_on(FULL)
    );
    let reading = Reading::new(Path::new(BASE));
    good(build(&everything, Path::new(BASE), &BTreeMap::new(), &reading));
    let asked = reading.asked();
    assert!(asked.contains("handlers.*.retry.max") && asked.len() > 60, "{asked:?}");
    let missing: Vec<_> = asked.iter().filter(|key| !stands_in(FULL, key)).collect();
    assert!(missing.is_empty(), "not in config/brevdue.toml: {missing:?}");
}

/// Whether some line under the key's table, or a table's own line, has the key.
fn stands_in(text: &str, shape: &str) -> bool {
    let (table, key) = shape.rsplit_once('.').unwrap_or(("", shape));
    let top = table.split('.').next().unwrap_or_default();
    let mut here = String::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().any(|line| {
        if line.starts_with('[') {
            here = line.trim_matches(['[', ']']).to_owned();
        }
        let under = here.split('.').next() == Some(top);
        let heading = line.starts_with('[') && here.split('.').any(|part| part == key);
        heading
            || under
                && line.split(|c: char| !is_word(c)).any(|word| word == key)
                && line.contains('=')
    })
}

#[test]
fn the_least_configuration_has_every_default() {
    let config = good(from(MINIMAL));
    let seconds = Duration::from_secs;
    assert_eq!(config.data_dir, Path::new("/var/lib/brevdue"));
    assert_eq!(config.shutdown_grace, seconds(25));
    let server = &config.server;
    assert_eq!(server.listen, ["[::]:8443".parse().unwrap()]);
    assert_eq!((server.max_connections.get(), server.max_body), (1024, 65_536));
    assert_eq!(server.max_connections_per_address.get(), 256);
    assert_eq!(server.max_body_total, 64 * 1024 * 1024);
    assert_eq!((server.handshake_timeout, server.request_timeout), (seconds(10), seconds(20)));
    assert!(server.trusted_proxies.is_empty());
    assert_eq!(config.admin.socket, Path::new("/run/brevdue/admin.sock"));
    assert!(config.admin.listen.is_none() && config.admin.token_file.is_none());
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Auto, "info"));
    let queue = &config.queue;
    assert_eq!((queue.max_bytes, queue.min_free_disk), (10 << 30, 512 << 20));
    assert_eq!((queue.dedup_window, queue.retain), (seconds(90 * 86_400), Duration::ZERO));
    assert_eq!(queue.dedup_max, 2_000_000);
    assert_eq!((queue.dead_letters_max, queue.dead_letters_bytes), (100_000, 1 << 30));
    assert_eq!(queue.dead_letters_age, seconds(365 * 86_400));
    let subscription = config.subscriptions.values().next().unwrap();
    assert!(!subscription.include_subunits && subscription.secret_file.is_none());
    assert_eq!(subscription.start_from, StartAt::Now);
    let handler = handler(&config, "arkiv");
    assert_eq!((handler.timeout, handler.concurrency.get()), (seconds(30), 8));
    assert_eq!((handler.start_at, &handler.matches), (StartAt::Now, &Match::default()));
    let backoff = Backoff::try_new(seconds(1), seconds(3600), 2.0).unwrap();
    assert_eq!(handler.retry, Retry { backoff, give_up_after: seconds(7 * 86_400) });
}

#[test]
fn altinn_has_its_defaults_and_filters_become_urns() {
    let config = good(from(MINIMAL));
    let altinn = config.altinn.unwrap();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!((altinn.reconcile_interval, altinn.feed_interval), (minutes(10), minutes(10)));
    assert_eq!(altinn.overlap, minutes(65));
    assert_eq!(altinn.maskinporten.scopes, ["altinn:events.subscribe"]);
    assert!(altinn.maskinporten.system_user.is_none());
    let subscription = config.subscriptions.into_values().next().unwrap();
    assert_eq!(subscription.resource, "urn:altinn:resource:nabovarsel");
    let subject = "urn:altinn:organization:identifier-no:999888777";
    assert_eq!(subscription.subject.as_deref(), Some(subject));
}

#[test]
fn an_environment_of_altinn_says_where_it_is() {
    const TEST: &str = "https://test.maskinporten.no/";
    for (name, platform, issuer) in [
        ("prod", "https://platform.altinn.no/", "https://maskinporten.no/"),
        ("tt02", "https://platform.tt02.altinn.no/", TEST),
        ("at22", "https://platform.at22.altinn.cloud/", TEST),
        ("at23", "https://platform.at23.altinn.cloud/", TEST),
        ("yt01", "https://platform.yt01.altinn.cloud/", TEST),
    ] {
        let altinn = good(from(&MINIMAL.replace("tt02", name))).altinn.unwrap();
        assert_eq!(
            (altinn.platform_url.as_str(), altinn.maskinporten_issuer.as_str()),
            (platform, issuer)
        );
    }
    let custom = "custom\"\nca_file = \"ca.pem\"\nplatform_url = \"http://127.0.0.1:5101/x/\"\n\
                  maskinporten_issuer = \"http://[::1]:5102/";
    let altinn = good(from(&MINIMAL.replace("tt02", custom))).altinn.unwrap();
    assert_eq!(altinn.platform_url.as_str(), "http://127.0.0.1:5101/x");
    assert_eq!(altinn.maskinporten_issuer, "http://[::1]:5102/");
    assert_eq!(altinn.ca_file.unwrap(), Path::new("/etc/brevdue/ca.pem"));
}

#[test]
fn named_sets_of_networks_are_taken_apart() {
    let with = |lines: &str| MINIMAL.replace("[server]", &format!("[server]\n{lines}"));
    let server = good(from(&with("allow_from = [\"altinn-tt02\", \"10.0.0.0/8\"]"))).server;
    let list = server.allow_from.unwrap();
    let shown: Vec<_> = list.networks.iter().map(ToString::to_string).collect();
    let tt02 = ["20.100.48.118/31", "20.100.48.120/31", "20.100.24.41/32", "10.0.0.0/8"];
    assert_eq!((list.mode, shown), (AllowFromMode::Enforce, tt02.map(str::to_owned).to_vec()));
    let report = "allow_from = [\"altinn-prod\"]\nallow_from_mode = \"report\"";
    let server = good(from(&with(report))).server;
    assert_eq!(server.allow_from.unwrap().mode, AllowFromMode::Report);
    let source = "[sources.a]\nauth = \"allow_from\"\n";
    let whole = format!("{}\n{source}", with("allow_from = [\"10.0.0.0/8\"]"));
    let sources = good(from(&whole)).sources;
    assert!(matches!(sources.values().next().unwrap().auth, SourceAuth::AllowFrom));
    // Who is only reported is let in, so that it proves nothing.
    let found = problems(from(&format!("{}\n{source}", with(report))));
    assert!(matches!(&found[..], [one] if one.key == "sources.a.auth"), "{found:?}");
}

#[test]
fn a_key_is_named_by_its_id_or_by_a_certificate() {
    let config = good(from(MINIMAL)).altinn.unwrap().maskinporten;
    assert!(matches!(config.key_name, KeyName::Id(_)));
    let lines = MINIMAL.lines().map(|line| {
        if line.starts_with("key_id") { "certificate_file = \"chain.pem\"" } else { line }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let config = good(from(&text)).altinn.unwrap().maskinporten;
    assert_eq!(config.key_name, KeyName::Certificate("/etc/brevdue/chain.pem".into()));
    let neither = text.replace("certificate_file = \"chain.pem\"", "");
    let config = good(from(&neither)).altinn.unwrap().maskinporten;
    assert_eq!(config.key_name, KeyName::OfKey);
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("brevdue.toml");
    let text = MINIMAL.replace("kind = \"http\"", "kind = \"file\"\npath = \"out/e.jsonl\" #");
    let text =
        format!("data_dir = \"data\"\n{}", text.replace("url = \"http:", "timeout = \"1s\" #"));
    std::fs::write(&path, text).unwrap();
    let config = good(Config::load(&path));
    let folder = folder.path();
    assert_eq!(config.data_dir, folder.join("data"));
    let tls = config.server.tls.as_ref().unwrap();
    assert_eq!(tls.certificate_file, folder.join("tls/fullchain.pem"));
    assert_eq!(tls.key_file.path(), folder.join("tls/privkey.pem"));
    let HandlerKind::File(file) = &handler(&config, "arkiv").kind else { panic!("{config:?}") };
    assert_eq!(file.path, folder.join("out/e.jsonl"));
}

#[test]
fn a_missing_or_unreadable_file_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(error, ConfigError::Missing(_)) && error.to_string().contains("none.toml"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(Config::load(&path).unwrap_err(), ConfigError::Read { .. }));
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert!(matches!(Config::load(&path).unwrap_err(), ConfigError::Read { .. }));
}

#[test]
fn a_syntax_error_has_line_and_column_and_not_the_line_itself() {
    let error = from("data_dir = \"/x\"\nsecret = hunter2 hunter2\n").unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, ConfigError::Syntax { .. }), "{told}");
    assert!(told.starts_with(BASE) && told.contains("line 2, column"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = from("a = 1\na = 2\n").unwrap_err().to_string();
    assert!(told.contains("line 2, column 1") && told.contains("duplicate key"), "{told}");
}

#[test]
fn tables_in_tables_without_end_are_refused_before_they_are_read() {
    let deep = vec!["a"; 100_000].join(".");
    for text in [
        format!("{deep} = 1"),
        format!("[{deep}]"),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("x = {{ {deep} = 1 }}"),
        format!("x = \"=\"\n\"=\".{deep} = 1"),
    ] {
        assert!(matches!(from(&text), Err(ConfigError::Syntax { .. })), "{}", &text[..20]);
    }
}

fn toml_like() -> impl Strategy<Value = String> {
    let words =
        "[a-z_]{1,8}|server|altinn|handlers|sources|subscriptions|match|retry|tls|auth|kind";
    let value = prop_oneof![
        "[0-9]{1,20}".boxed(),
        "\"[ -!#-\\[\\]-~]{0,12}\"".boxed(),
        Just("true".to_owned()).boxed(),
        Just("1.5e400".to_owned()).boxed(),
        Just("[1, \"a\", []]".to_owned()).boxed(),
        Just("{ a = 1, file = \"x\" }".to_owned()).boxed(),
        Just("\"http\"".to_owned()).boxed(),
        Just("1979-05-27T07:32:00Z".to_owned()).boxed(),
        Just("nan".to_owned()).boxed(),
    ];
    let line = prop_oneof![
        (words, value).prop_map(|(key, value)| format!("{key} = {value}")),
        (words, words).prop_map(|(table, name)| format!("[{table}.{name}]")),
        words.prop_map(|table| format!("[{table}]")),
        "\"[ -!#-\\[\\]-~]{0,12}\" = 1".prop_map(|line| line),
        ".{0,20}".prop_map(|line| line),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in toml_like(), name in "[A-Z_\\[\\]0-9-]{0,20}", value in ".{0,12}") {
        let environment = BTreeMap::from([(format!("BREVDUE__{name}"), value)]);
        match Config::from_toml(&text, Path::new(BASE), &environment) {
            Err(ConfigError::Invalid { problems, .. }) => prop_assert!(!problems.is_empty()),
            Err(ConfigError::Syntax { message, .. }) => prop_assert!(!message.is_empty()),
            Err(ConfigError::Missing(_) | ConfigError::Read(_)) => prop_assert!(false),
            Ok(_) => prop_assert!(false, "nothing random has a public_url"),
        }
    }

    #[test]
    fn a_changed_file_never_panics(at in 0usize..6000, by in "[ -~\n]{0,3}") {
        let mut text = FULL.to_owned();
        let at = at.min(text.len());
        if text.is_char_boundary(at) {
            text.insert_str(at, &by);
        }
        if let Err(error) = from(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
