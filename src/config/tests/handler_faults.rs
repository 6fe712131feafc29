//! Tables of faults in handlers.

use super::*;

#[test]
fn faults_of_handlers_are_told() {
    for (lines, key, words) in [
        ("", "kind", "is missing"),
        ("kind = \"smtp\"", "kind", "must be one of \"http\", \"exec\", \"file\""),
        ("kind = \"nats\"\nurl = \"nats://x\"", "kind", "nats is not built yet"),
        ("kind = \"pull\"", "kind", "pull is not built yet"),
        ("kind = \"correspondence\"", "kind", "correspondence is not built yet"),
        ("kind = \"http\"", "url", "is missing"),
        ("kind = \"http\"\nurl = \"ftp://a\"", "url", "unix:SOCKET:/path"),
        ("kind = \"http\"\nurl = \"/events\"", "url", "unix:SOCKET:/path"),
        ("kind = \"http\"\nurl = \"https://me:pw@a.no/\"", "url", "without credentials"),
        ("kind = \"http\"\nurl = \"https://a.no/#x\"", "url", "without a fragment"),
        ("kind = \"http\"\nurl = \"unix:/run/app.sock\"", "url", "must be unix:SOCKET:/path"),
        ("kind = \"http\"\nurl = \"unix::/x\"", "url", "must be unix:SOCKET:/path"),
        ("kind = \"http\"\nurl = \"unix:/a:/x y\"", "url", "must be unix:SOCKET:/path"),
        ("kind = \"http\"\nurl = \"http://a\"\ncontent_mode = \"batch\"", "content_mode", "binary"),
        ("kind = \"http\"\nurl = \"http://a\"\npath = \"x\"", "path", "only for kind = \"file\""),
        ("kind = \"exec\"", "command", "is missing"),
        ("kind = \"exec\"\ncommand = []", "command", "the program comes first"),
        ("kind = \"exec\"\ncommand = [\"cat\"]", "command", "absolute path"),
        ("kind = \"exec\"\ncommand = \"/bin/cat\"", "command", "must be a list"),
        (
            "kind = \"exec\"\ncommand = [\"/x\"]\nenv = { API_TOKEN = \"x\" }",
            "env.API_TOKEN",
            "never",
        ),
        (
            "kind = \"exec\"\ncommand = [\"/x\"]\nenv = { \"A=B\" = \"x\" }",
            "env.\"A=B\"",
            "name of a",
        ),
        ("kind = \"exec\"\ncommand = [\"/x\"]\nenv = { A = 1 }", "env.A", "text in quotes"),
        ("kind = \"file\"", "path", "is missing"),
    ] {
        handler_fault(lines, key, words);
    }
}

#[test]
fn faults_of_what_all_handlers_have_are_told() {
    for (line, key, words) in [
        ("timeout = \"0s\"", "timeout", "at least 100ms"),
        ("timeout = \"99ms\"", "timeout", "at least 100ms"),
        ("timeout = \"2d\"", "timeout", "at most 86400s"),
        ("concurrency = 0", "concurrency", "from 1 to 1024"),
        ("concurrency = 1025", "concurrency", "from 1 to 1024"),
        ("order_by = \"subject\"", "order_by", "only \"none\" is built yet"),
        ("on_dead = \"block\"", "on_dead", "only \"skip\" is built yet"),
        ("start_at = \"yesterday\"", "start_at", "\"now\" or \"oldest\""),
        ("retry = \"never\"", "retry", "must be a table"),
        ("retry = { initial = \"0s\" }", "retry.initial", "longer than zero"),
        ("retry = { initial = \"2h\" }", "retry.max", "not be shorter than initial"),
        ("retry = { max = \"1\" }", "retry.max", "must be a duration"),
        ("retry = { factor = 0.5 }", "retry.factor", "from 1 to 100"),
        ("retry = { factor = nan }", "retry.factor", "from 1 to 100"),
        ("retry = { factor = \"2\" }", "retry.factor", "without quotes"),
        ("retry = { give_up = \"1d\" }", "retry.give_up", "is not known"),
        ("retry = { maks = \"1d\" }", "retry.maks", "did you mean max?"),
        ("match = { from = [] }", "match.from", "leave it out"),
        ("match = { type = [] }", "match.type", "leave it out"),
        ("match = { source = [] }", "match.source", "leave it out"),
        ("match = { subject = [] }", "match.subject", "leave it out"),
        ("match = { resource = [] }", "match.resource", "leave it out"),
        ("match = []", "match", "must be a table"),
        ("match = { type = [\"a*b\"] }", "match.type", "item 1 has a '*'"),
        ("match = { subject = [\"a\", \"\"] }", "match.subject", "item 2 is empty"),
        ("match = { source = \"a\" }", "match.source", "must be a list"),
        ("match = { types = [\"a\"] }", "match.types", "did you mean type?"),
        ("concurency = 1", "concurency", "did you mean concurrency?"),
        ("token = \"x\"", "token", "never written here"),
    ] {
        handler_fault(&format!("kind = \"file\"\npath = \"x\"\n{line}"), key, words);
    }
}

fn handler_fault(lines: &str, key: &str, words: &str) {
    let found = problems(from(&format!("{MINIMAL}\n[handlers.a]\n{lines}\n")));
    assert!(
        matches!(&found[..], [one] if one.key == format!("handlers.a.{key}")),
        "{lines}: {found:?}"
    );
    assert!(found[0].message.contains(words), "{lines}: {found:?}");
}
