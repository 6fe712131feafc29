//! Tables of faults: what is written, which key is told, and which words.

use super::*;

/// What a fault is put into: an edit of the minimal file.
enum Edit {
    /// Takes the place of a line that begins so.
    Line(&'static str, &'static str),
    /// Goes to the end.
    End(&'static str),
}
use Edit::{End, Line};

fn edited(edit: &Edit) -> String {
    match edit {
        End(text) => format!("{MINIMAL}\n{text}\n"),
        Line(start, text) => {
            let found = MINIMAL.lines().filter(|line| line.starts_with(start)).count();
            assert_eq!(found, 1, "{start}");
            let lines =
                MINIMAL.lines().map(|line| if line.starts_with(start) { text } else { line });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// Each edit gives exactly the one problem.
fn each(table: &[(Edit, &str, &str)]) {
    for (edit, key, words) in table {
        let text = edited(edit);
        let found = problems(from(&text));
        let told: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(matches!(&found[..], [one] if one.key == *key), "{key}: {told:?}");
        assert!(found[0].message.contains(words), "{key}: {words:?} is not in {told:?}");
    }
}

#[test]
fn faults_of_the_server_are_told() {
    const URL: &str = "public_url";
    const TLS: &str = "tls =";
    let url = "server.public_url";
    let tls = "server.tls";
    each(&[
        (Line(URL, ""), url, "is missing"),
        (Line(URL, "public_url = \"http://a.no\""), url, "https://"),
        (Line(URL, "public_url = \"hooks.example.no\""), url, "whole URL"),
        (Line(URL, "public_url = \"https://a.no/?x=1\""), url, "without a query"),
        (Line(URL, "public_url = \"https://a.no/#x\""), url, "without a fragment"),
        (Line(URL, "public_url = \"https://u:p@a.no\""), url, "without credentials"),
        (Line(URL, "public_url = \"https://hooks.slack.com/x\""), url, "hooks.slack.com"),
        (Line(URL, "public_url = \"https://a.no:0\""), url, "a port from 1 to 65535"),
        (Line(URL, "public_url = \"https://a.no/%zz\""), url, "write %25"),
        (Line(URL, "public_url = \"https://a.no/x%\""), url, "write %25"),
        (Line(URL, "public_url = \"https://a.no/%4\""), url, "write %25"),
        (Line(URL, "public_url = \"https://a.no?\""), url, "without a query"),
        (Line(URL, "public_url = \"https://u@a.no\""), url, "without credentials"),
        (Line(URL, "public_url = 7"), url, "whole URL"),
        (Line(URL, "public_url = \"\""), url, "whole URL"),
        (Line(TLS, ""), tls, "is missing"),
        (Line(TLS, "tls = \"on\""), tls, "\"off\" behind a proxy"),
        (Line(TLS, "tls = false"), tls, "certificate_file"),
        (Line(TLS, "tls = \"off\""), "server.trusted_proxies", "name the proxies"),
        (Line(TLS, "tls = { key_file = \"k\" }"), "server.tls.certificate_file", "is missing"),
        (Line(TLS, "tls = { certificate_file = \"k\" }"), "server.tls.key_file", "is missing"),
        (End("[server.extra]\nx = 1"), "server.extra", "is not known"),
    ]);
}

#[test]
fn faults_of_the_servers_limits_are_told() {
    for (line, key, words) in [
        ("listen = \"[::]:8443\"", "server.listen", "must be a list"),
        ("listen = []", "server.listen", "is empty: name an address"),
        (
            "listen = [\"[::]:8443\", \"8443\"]",
            "server.listen",
            "item 2 must be an address and port",
        ),
        ("max_body = \"1025KiB\"", "server.max_body", "from 1kB to 1MiB"),
        ("max_body = 999", "server.max_body", "from 1kB to 1MiB"),
        ("max_body = \"64 kilo\"", "server.max_body", "must be a size"),
        ("max_connections = 0", "server.max_connections", "from 1 to 100000"),
        ("max_connections = \"8\"", "server.max_connections", "without quotes"),
        ("max_connections = -1", "server.max_connections", "not below zero"),
        ("max_connections = 1.5", "server.max_connections", "whole number"),
        ("max_connections_per_address = 0", "server.max_connections_per_address", "from 1 to max"),
        (
            "max_connections_per_address = 1025",
            "server.max_connections_per_address",
            "from 1 to max",
        ),
        ("max_body_total = \"255KiB\"", "server.max_body_total", "4 times max_body"),
        ("max_body_total = \"65GiB\"", "server.max_body_total", "to 64GiB"),
        ("handshake_timeout = \"0s\"", "server.handshake_timeout", "longer than zero"),
        ("handshake_timeout = 10", "server.handshake_timeout", "must be a duration"),
        ("request_timeout = \"11m\"", "server.request_timeout", "at most 600s"),
        ("trusted_proxies = [\"proxy\"]", "server.trusted_proxies", "item 1 must be an IP"),
        ("trusted_proxies = [\"10.0.0.1/8\"]", "server.trusted_proxies", "behind its prefix"),
        ("proxy_protocol = true", "server.proxy_protocol", "needs trusted_proxies"),
        ("allow_from = []", "server.allow_from", "lets nobody in"),
        ("allow_from = [\"altinn\"]", "server.allow_from", "altinn-prod and altinn-tt02"),
        ("allow_from = [\"::/0\", \"::/200\"]", "server.allow_from", "item 2 has a longer"),
        ("allow_from_mode = \"report\"", "server.allow_from_mode", "nothing without allow_from"),
        (
            "allow_from = [\"::/0\"]\nallow_from_mode = \"log\"",
            "server.allow_from_mode",
            "\"enforce\" or \"report\"",
        ),
        ("client_ca_file = \"ca.pem\"", "server.client_ca_file", "is not built yet"),
        ("max_bdy = 1", "server.max_bdy", "did you mean max_body?"),
        ("Max_Body = 1", "server.Max_Body", "did you mean max_body?"),
    ] {
        let found = problems(from(&MINIMAL.replace("[server]", &format!("[server]\n{line}"))));
        assert!(matches!(&found[..], [one] if one.key == key), "{line}: {found:?}");
        assert!(found[0].message.contains(words), "{line}: {found:?}");
    }
}

#[test]
fn faults_of_the_small_tables_are_told() {
    each(&[
        (End("[admin]\nlisten = \"9644\""), "admin.listen", "address and port"),
        (End("[admin]\nsocket = \"\""), "admin.socket", "is empty"),
        (End("[admin]\ntoken = \"x\""), "admin.token", "never written here"),
        (End("[log]\nlevel = \"inof\""), "log.level", "must be one of off, error"),
        (End("[log]\nlevel = \"info,brevdue=loud\""), "log.level", "must be one of off, error"),
        (End("[log]\nlevel = 3"), "log.level", "text in quotes"),
        (End("[log]\nformat = \"xml\""), "log.format", "\"auto\" or \"text\" or \"json\""),
        (End("[queue]\nstore = \"jetstream\""), "queue.store", "jetstream is not built yet"),
        (End("[queue]\nstore = \"redb\""), "queue.store", "must be \"sled\""),
        (End("[queue]\nmax_bytes = \"1MiB\""), "queue.max_bytes", "at least 16MiB"),
        (End("[queue]\ndedup_window = \"0s\""), "queue.dedup_window", "at least 1h"),
        (End("[queue]\ndedup_window = \"59m\""), "queue.dedup_window", "at least 1h"),
        (End("[queue]\ndead_letters_bytes = 0"), "queue.dead_letters_bytes", "at least 2MiB"),
        (End("[queue]\ndead_letters_age = \"59m\""), "queue.dead_letters_age", "at least 1h"),
        (End("[queue]\ndedup_window = \"99999d\""), "queue.dedup_window", "longer than 3650d"),
        (End("[queue]\ndedup_max = 999"), "queue.dedup_max", "from 1000"),
        (End("[queue]\ndead_letters_max = 0"), "queue.dead_letters_max", "from 1"),
        (End("[queue]\ndead_letters_age = \"0s\""), "queue.dead_letters_age", "at least 1h"),
        (End("[queue]\nretain = true"), "queue.retain", "must be a duration"),
        (End("[queu]\nretain = \"0s\""), "queu", "did you mean queue?"),
        (End("[colours]\nretain = \"0s\""), "colours", "is not known"),
        (End("[\"a b\".c]\nx = 1"), "\"a b\"", "is not known"),
        (End("[\"a[99999999999999]\"]"), "\"a[99999999999999]\"", "is not known"),
    ]);
}

#[test]
fn faults_of_altinn_are_told() {
    const PLACE: &str = "environment";
    const KEY: &str = "key_file =";
    let place = "altinn.environment";
    let custom = "environment = \"custom\"\nplatform_url = \"https://a/\"\nmaskinporten_issuer = ";
    let issuer = |text: &str| format!("{custom}\"{text}\"").leak();
    each(&[
        (Line(PLACE, ""), place, "is missing"),
        (Line(PLACE, "environment = \"test\""), place, "\"prod\" or \"tt02\""),
        (
            Line(PLACE, "environment = \"prod\"\nplatform_url = \"https://a\""),
            "altinn.platform_url",
            "only for environment = \"custom\"",
        ),
        (
            Line(PLACE, "environment = \"prod\"\nca_file = \"ca\""),
            "altinn.ca_file",
            "only for environment = \"custom\"",
        ),
        (
            Line(PLACE, "environment = \"custom\"\nplatform_url = \"https://a\""),
            "altinn.maskinporten_issuer",
            "needs it",
        ),
        (Line(PLACE, issuer("https://a.no")), "altinn.maskinporten_issuer", "must end in '/'"),
        (Line(PLACE, issuer("http://a.no/")), "altinn.maskinporten_issuer", "https://"),
        (Line(PLACE, issuer("http://127.0.0.1.a.no/")), "altinn.maskinporten_issuer", "https://"),
        (Line(PLACE, issuer("a.no/")), "altinn.maskinporten_issuer", "whole URL"),
        (
            Line(PLACE, "environment = \"prod\"\nfeed_interval = \"0s\""),
            "altinn.feed_interval",
            "at least 100ms",
        ),
        (Line(KEY, ""), "altinn.maskinporten.key_file", "is missing"),
        (Line(KEY, "key_file = \"\""), "altinn.maskinporten.key_file", "is empty"),
        (
            Line(KEY, "key_file = \"k\"\nclient_secret = \"x\""),
            "altinn.maskinporten.client_secret",
            "never written here",
        ),
        (
            Line(KEY, "key_file = \"k\"\ncertificate_file = \"x\""),
            "altinn.maskinporten.certificate_file",
            "beside key_id",
        ),
        (
            Line(KEY, "key_file = \"k\"\nconsumer_org = \"0192:910753614\""),
            "altinn.maskinporten.consumer_org",
            "without 0192:",
        ),
        (
            Line(KEY, "key_file = \"k\"\nresource = \"https://a.no\""),
            "altinn.maskinporten.resource",
            "must be a list",
        ),
        (Line("client_id", "client_id = \" x\""), "altinn.maskinporten.client_id", "white space"),
        (Line("key_id", "key_id = \"a\\u0007\""), "altinn.maskinporten.key_id", "control"),
    ]);
}

#[test]
fn faults_of_scopes_and_system_users_are_told() {
    for (line, key, words) in [
        ("scopes = []", "scopes", "must have altinn:events.subscribe"),
        ("scopes = [\"altinn:serviceowner\"]", "scopes", "must have altinn:events.subscribe"),
        ("scopes = [\"altinn:events.subscribe x\"]", "scopes", "without white space"),
        ("scopes = [\"altinn:events.subscribe\", \"\"]", "scopes", "item 2 is empty"),
        ("scopes = \"altinn:events.subscribe\"", "scopes", "must be a list"),
        ("system_user = {}", "system_user.org", "is missing"),
        ("system_user = \"999888777\"", "system_user", "must be a table"),
        ("system_user = { org = \"0192:999888777\" }", "system_user.org", "without 0192:"),
        ("system_user = { org = 999888777 }", "system_user.org", "text in quotes"),
        ("system_user = { org = \"999888777\", ref = \"x\" }", "system_user.ref", "is not known"),
    ] {
        let text =
            MINIMAL.replace("[altinn.maskinporten]", &format!("[altinn.maskinporten]\n{line}"));
        let found = problems(from(&text));
        let key = format!("altinn.maskinporten.{key}");
        assert!(matches!(&found[..], [one] if one.key == key), "{line}: {found:?}");
        assert!(found[0].message.contains(words), "{line}: {found:?}");
        assert!(!found[0].message.contains("9998"), "{found:?}");
    }
}

#[test]
fn faults_of_subscriptions_are_told_and_subjects_are_not() {
    for (line, key, words) in [
        ("resource = \"\"", "resource", "is empty"),
        ("resource = \"Nabovarsel\"", "resource", "lower case"),
        ("subject = \"\"", "subject", "is empty; leave it out"),
        ("subject = 999888777", "subject", "text in quotes"),
        ("subject = \"01017012345\"", "subject", "urn:altinn:person:identifier-no:NUMBER"),
        (
            "subject = \"/organisation/999888777\"",
            "subject",
            "urn:altinn:organization:identifier-no:NUMBER",
        ),
        ("type = \"\"", "type", "is empty"),
        ("type = [\"a\"]", "type", "one type, not a list"),
        ("type = \"no.altinn.*\"", "type", "no wildcards"),
        ("type = \"no.altinn.%\"", "type", "no wildcards"),
        ("include_subunits = \"yes\"", "include_subunits", "true or false"),
        ("source = \"https://a\"", "source", "400 to a source filter"),
        ("source_filter = \"https://a\"", "source_filter", "400 to a source filter"),
        ("alternative_subject = \"/person/1\"", "alternative_subject", "400 to an alternative"),
        ("endpoint = \"https://a\"", "endpoint", "brevdue makes it"),
        ("start_from = \"beginning\"", "start_from", "\"now\" or \"oldest\""),
        ("secret = \"x\"", "secret", "never written here"),
        ("secret_file = \"credential:../x\"", "secret_file", "not a credential's name"),
        ("resorce = \"x\"", "resorce", "did you mean resource?"),
    ] {
        let own = line.split(' ').next().unwrap();
        let kept = ["resource = \"nabovarsel\"", "subject = \"999888777\""];
        let kept = kept.into_iter().filter(|kept| !kept.starts_with(&format!("{own} ")));
        let lines = kept.chain([line]).collect::<Vec<_>>().join("\n");
        let (start, _) = MINIMAL.split_once("resource =").unwrap();
        let found = problems(from(&format!("{start}{lines}")));
        assert!(
            matches!(&found[..], [one] if one.key == format!("subscriptions.innboks.{key}")),
            "{line}: {found:?}"
        );
        assert!(found[0].message.contains(words), "{line}: {found:?}");
        assert!(!["9998", "0101"].iter().any(|part| found[0].message.contains(part)), "{found:?}");
    }
}

#[test]
fn what_does_not_fit_together_is_told() {
    each(&[
        (
            Line("subject", "include_subunits = true"),
            "subscriptions.innboks.include_subunits",
            "needs a subject",
        ),
        (
            End("[sources.innboks]\nauth = { bearer_file = \"b\" }"),
            "sources.innboks",
            "also the name of a subscription",
        ),
        (End("[subscriptions.Innboks]\nresource = \"x\""), "subscriptions.Innboks", "a name is"),
        (End("[handlers.raw]\nkind = \"file\"\npath = \"x\""), "handlers.raw", "cannot be"),
        (
            End("[handlers.a]\nkind = \"file\"\npath = \"x\"\nmatch = { from = [\"inboks\"] }"),
            "handlers.a.match.from",
            "did you mean innboks?",
        ),
        (
            End("[handlers.a]\nkind = \"file\"\npath = \"x\"\nmatch = { from = [\"other-one\"] }"),
            "handlers.a.match.from",
            "names of subscriptions and sources",
        ),
    ]);
    let (start, rest) = MINIMAL.split_once("[altinn]").unwrap();
    let (_, rest) = rest.split_once("[subscriptions").unwrap();
    let found = problems(from(&format!("{start}[subscriptions{rest}")));
    assert!(matches!(&found[..], [one] if one.key == "altinn"), "{found:?}");
    let (_, handlers) = rest.split_once("[handlers").unwrap();
    good(from(&format!("{start}[handlers{handlers}")));
}

#[test]
fn faults_of_sources_are_told() {
    each(&[
        (End("[sources.a]"), "sources.a.auth", "is missing"),
        (End("[sources.a]\nauth = {}"), "sources.a.auth", "bearer_file"),
        (End("[sources.a]\nauth = \"none\""), "sources.a.auth", "bearer_file"),
        (End("[sources.a]\nauth = \"allow_from\""), "sources.a.auth", "needs server.allow_from"),
        (
            End("[sources.a]\nauth = { client_certificate_names = [\"a\"] }"),
            "sources.a.auth.client_certificate_names",
            "is not built yet",
        ),
        (
            End("[sources.a]\nauth = { bearer_file = \"a\", standard_webhooks_file = \"b\" }"),
            "sources.a.auth",
            "not both",
        ),
        (
            End("[sources.a]\nauth = { bearer_file = \"a\", tolerance = \"5m\" }"),
            "sources.a.auth.tolerance",
            "only for standard_webhooks_file",
        ),
        (
            End("[sources.a]\nauth = { standard_webhooks_file = \"a\", tolerance = \"2h\" }"),
            "sources.a.auth.tolerance",
            "at most 3600s",
        ),
        (
            End("[sources.a]\nauth = { bearer_file = \"f\" }\nallowed_callbacks = [\"a\"]"),
            "sources.a.allowed_callbacks",
            "is not built yet",
        ),
        (
            End("[sources.a]\nauth = { bearer_file = \"f\" }\nallowed_origins = [\"*\"]"),
            "sources.a.allowed_origins",
            "name each origin",
        ),
        (
            End("[sources.a]\nauth = { bearer_file = \"f\", bearer = \"f\" }"),
            "sources.a.auth.bearer",
            "never written here",
        ),
        (End("[sources]\na = 1"), "sources.a", "must be a table"),
    ]);
}

#[test]
fn ten_faults_are_told_at_once_and_one_a_line() {
    let text = r#"
        shutdown_grace = "soon"
        colour = "blue"
        [server]
        public_url = "http://a.no"
        max_body = "1GiB"
        [queue]
        dedup_max = 1
        [altinn]
        environment = "tt03"
        password = "hunter2"
        [subscriptions.a]
        resource = "A"
        subject = "01017012345"
        [handlers.raw]
        kind = "pull"
        retry = { factor = 0 }
    "#;
    let error = from(text).unwrap_err();
    let told = error.to_string();
    let keys: BTreeSet<_> = told
        .lines()
        .filter_map(|line| line.trim_start().split_once(": "))
        .map(|(key, _)| key)
        .collect();
    let expected = [
        "altinn.environment",
        "altinn.maskinporten",
        "altinn.password",
        "colour",
        "handlers.raw",
        "handlers.raw.kind",
        "handlers.raw.retry.factor",
        "queue.dedup_max",
        "server.max_body",
        "server.public_url",
        "server.tls",
        "shutdown_grace",
        "subscriptions.a.resource",
        "subscriptions.a.subject",
    ];
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), expected, "{told}");
    assert_eq!(told.lines().count(), 1 + expected.len());
    assert!(told.starts_with("/etc/brevdue has 14 faults:\n"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("0101"), "{told}");
}

#[test]
fn a_secret_below_an_unknown_table_is_told_too_and_never_repeated() {
    let found = problems(from(&format!("{MINIMAL}\n[vault.inner]\npassword = \"hunter2\"\n")));
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["vault", "vault.inner.password"]);
    assert!(found.iter().all(|problem| !problem.message.contains("hunter2")));
}
