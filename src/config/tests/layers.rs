//! The environment over the file.

use super::*;

#[test]
fn names_may_have_dashes_digits_and_underscores() {
    let text = MINIMAL.replace("innboks", "my-name").replace("handlers.arkiv", "handlers.0-a_b");
    let config = good(from(&text));
    assert_eq!(config.subscriptions.keys().next().unwrap().as_str(), "my-name");
    let over = good(over(
        &text,
        &[
            ("BREVDUE__SUBSCRIPTIONS__MY-NAME__SUBJECT", "987654321"),
            ("BREVDUE__HANDLERS__0-A_B__TIMEOUT", "5s"),
        ],
    ));
    let subject = over.subscriptions.values().next().unwrap().subject.clone().unwrap();
    assert!(subject.ends_with(":987654321"));
    assert_eq!(handler(&over, "0-a_b").timeout, Duration::from_secs(5));
}

#[test]
fn the_environment_goes_before_the_file_for_every_type() {
    let config = good(over(
        MINIMAL,
        &[
            ("BREVDUE__SERVER__LISTEN", "[::1]:1,127.0.0.1:2"),
            ("BREVDUE__SERVER__MAX_CONNECTIONS", "7"),
            ("BREVDUE__SERVER__MAX_BODY", "1000"),
            ("BREVDUE__SERVER__TLS", "off"),
            ("BREVDUE__SERVER__TRUSTED_PROXIES", "10.0.0.1"),
            ("BREVDUE__QUEUE__DEDUP_MAX", "5_000"),
            ("BREVDUE__SUBSCRIPTIONS__INNBOKS__INCLUDE_SUBUNITS", "True"),
            ("BREVDUE__HANDLERS__ARKIV__RETRY__FACTOR", "3"),
            ("BREVDUE__HANDLERS__ARKIV__RETRY__MAX", "5m"),
            ("BREVDUE__HANDLERS__ARKIV__MATCH__TYPE", "a.*, b"),
            ("BREVDUE__ALTINN__MASKINPORTEN__SYSTEM_USER__ORG", "123456789"),
            ("BREVDUE_CONFIG", "/not/ours"),
        ],
    ));
    let server = &config.server;
    assert_eq!(server.listen, ["[::1]:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
    assert_eq!((server.max_connections.get(), server.max_body), (7, 1000));
    assert_eq!(server.max_connections_per_address.get(), 7, "few are not taken apart");
    assert!(server.tls.is_none() && server.trusted_proxies.len() == 1);
    assert_eq!(config.queue.dedup_max, 5000);
    assert!(config.subscriptions.values().all(|subscription| subscription.include_subunits));
    let arkiv = handler(&config, "arkiv");
    let seconds = Duration::from_secs;
    assert_eq!(arkiv.retry.backoff, Backoff::try_new(seconds(1), seconds(300), 3.0).unwrap());
    let types = [Pattern::Prefix("a.".to_owned()), Pattern::Exact("b".to_owned())];
    assert_eq!(arkiv.matches.ty, types);
    assert_eq!(config.altinn.unwrap().maskinporten.system_user.unwrap().org, "123456789");
}

#[test]
fn a_handler_can_come_from_the_environment_alone() {
    let config = good(over(
        MINIMAL,
        &[
            ("BREVDUE__HANDLERS__NY__KIND", "exec"),
            ("BREVDUE__HANDLERS__NY__COMMAND", r#"["/bin/sh", "-c", "cat; true"]"#),
        ],
    ));
    let HandlerKind::Exec(exec) = &handler(&config, "ny").kind else { panic!("{config:?}") };
    assert_eq!(exec.command, ["/bin/sh", "-c", "cat; true"]);
}

#[test]
fn the_keys_of_free_tables_keep_their_case() {
    let text = format!(
        "{MINIMAL}\n[handlers.ny]\nkind = \"exec\"\ncommand = [\"/bin/true\"]\nenv = {{ API_URL = \"a\", \
         Path = \"b\" }}\n"
    );
    let config = good(over(
        &text,
        &[
            ("BREVDUE__HANDLERS__NY__ENV__API_URL", "c"),
            ("BREVDUE__HANDLERS__NY__ENV__path", "d"),
            ("brevdue__handlers__ny__env__TWO__PARTS", "e"),
        ],
    ));
    let HandlerKind::Exec(exec) = &handler(&config, "ny").kind else { panic!("{config:?}") };
    let found: Vec<_> =
        exec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, [("API_URL", "c"), ("Path", "b"), ("TWO__PARTS", "e"), ("path", "d")]);
    let found = problems(over(&text, &[("BREVDUE__HANDLERS__NY__ENV__API_TOKEN", "hunter2")]));
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!(one.key, "handlers.ny.env.API_TOKEN");
    assert!(one.message.contains("never written here"), "{one}");
}

#[test]
fn a_fault_from_the_environment_names_the_variable() {
    for (environment, key, words) in [
        (
            vec![("BREVDUE__SERVER__MAX_BODY", "many")],
            "server.max_body",
            "BREVDUE__SERVER__MAX_BODY",
        ),
        (vec![("BREVDUE__QUEUE__DEDUP_MAX", "-1")], "queue.dedup_max", "whole number"),
        (vec![("BREVDUE__SERVR__LISTEN", "x")], "servr", "did you mean server"),
        (vec![("BREVDUE__A[99999999999999]", "x")], "BREVDUE__A[99999999999999]", "not the name"),
        (vec![("BREVDUE__", "x")], "BREVDUE__", "not the name"),
        (vec![("BREVDUE__LOG____LEVEL", "x")], "BREVDUE__LOG____LEVEL", "not the name"),
        (vec![("BREVDUE__LOG", "x")], "log", "must be a table"),
        (
            vec![("BREVDUE__LOG__LEVEL", "info"), ("BREVDUE__log__level", "warn")],
            "BREVDUE__log__level",
            "twice",
        ),
        (
            vec![("BREVDUE__SERVER__TLS", "off"), ("BREVDUE__SERVER__TLS__KEY_FILE", "k")],
            "BREVDUE__SERVER__TLS",
            "both as a value and as a section",
        ),
    ] {
        let found = problems(over(MINIMAL, &environment));
        let told = |problem: &Problem| problem.key == key && problem.message.contains(words);
        assert!(found.iter().any(told), "{environment:?}: {found:?}");
    }
}

#[test]
fn a_fault_of_what_only_the_environment_has_names_a_variable_and_one_of_the_file_does_not() {
    let variables =
        [("BREVDUE__HANDLERS__NY__URL", "http://127.0.0.1/"), ("BREVDUE__SERVER__LISTN", "x")];
    let text = MINIMAL.replace("[altinn]", "[altinn]\nenvironmen = \"x\"");
    let found = problems(over(&text, &variables));
    for (key, variable) in [
        ("handlers.ny.kind", Some(variables[0].0)),
        ("server.listn", Some(variables[1].0)),
        ("altinn.environmen", None),
    ] {
        let problem = found.iter().find(|problem| problem.key == key);
        let message = &problem.unwrap_or_else(|| panic!("{key}: {found:?}")).message;
        match variable {
            Some(variable) => assert!(message.contains(variable), "{message}"),
            None => assert!(!message.contains("BREVDUE"), "{message}"),
        }
    }
}

#[test]
fn a_credential_that_systemd_passes_to_the_daemon_only_is_no_fault_of_the_configuration() {
    let text = MINIMAL.replace("\"maskinporten.pem\"", "\"credential:no-such-credential\"");
    let config = from(&text).unwrap();
    let key = config.altinn.unwrap().maskinporten.key_file;
    assert_eq!(key.to_string(), "credential:no-such-credential");
}

#[test]
fn a_path_in_public_url_is_kept_without_its_slash() {
    for (written, kept) in [
        ("https://a.no", "https://a.no/"),
        ("https://a.no/", "https://a.no/"),
        ("https://a.no:8443/pre/fix//", "https://a.no:8443/pre/fix"),
    ] {
        let config = good(from(&MINIMAL.replace("https://hooks.example.no", written)));
        assert_eq!(config.server.public_url.as_str(), kept);
    }
}

#[test]
fn a_handlers_url_may_be_a_socket() {
    for (written, socket, path) in [
        ("unix:/run/app.sock:/events?a=b:/c", "/run/app.sock", "/events?a=b:/c"),
        ("unix:app.sock:/", "/etc/brevdue/app.sock", "/"),
    ] {
        let config = good(from(&MINIMAL.replace("http://127.0.0.1:9000/events", written)));
        let HandlerKind::Http(http) = &handler(&config, "arkiv").kind else { panic!("{config:?}") };
        let expected = HttpTarget::Unix { socket: socket.into(), path: path.to_owned() };
        assert_eq!(http.target, expected);
    }
}
