//! Values that can be written and cannot be meant: patterns that no event can fit, lists without anything, limits
//! below or above all sense.

use super::{broken::Broken, desk::Desk, silent::said};

const RESOURCE: &str = "handlers.logg.match.resource";

fn handler(desk: &Desk, line: &str) {
    desk.edit("path = \"events.jsonl\"", &format!("path = \"events.jsonl\"\n{line}"));
}

fn queue(desk: &Desk, line: &str) {
    desk.edit("[server]", &format!("[queue]\n{line}\n[server]"));
}

#[rustfmt::skip]
pub(super) const LIMITS: [Broken; 9] = [
    ("no types to match", |desk| handler(desk, "match.type = []"),
        "handlers.logg.match.type", "brevdue.toml", "leave it out to match everything"),
    ("no subjects to match", |desk| handler(desk, "match.subject = []"),
        "handlers.logg.match.subject", "brevdue.toml", "leave it out to match everything"),
    ("nobody to match", |desk| handler(desk, "match.from = []"),
        "handlers.logg.match.from", "brevdue.toml", "leave it out to match everything"),
    ("no time for an attempt", |desk| handler(desk, "timeout = \"99ms\""),
        "handlers.logg.timeout", "brevdue.toml", "at least 100ms"),
    ("no room for dead letters", |desk| queue(desk, "dead_letters_bytes = 0"),
        "queue.dead_letters_bytes", "brevdue.toml", "at least 2MiB"),
    ("no time for dead letters", |desk| queue(desk, "dead_letters_age = \"1s\""),
        "queue.dead_letters_age", "brevdue.toml", "at least 1h"),
    ("no memory of events", |desk| queue(desk, "dedup_window = \"1ms\""),
        "queue.dedup_window", "brevdue.toml", "at least 1h"),
    ("no room for a body", |desk| desk.edit("[server]", "[server]\nmax_body = 10"),
        "server.max_body", "brevdue.toml", "from 1kB to 1MiB"),
    ("more free room than there is", |desk| {
        std::fs::create_dir(desk.path("data")).unwrap();
        queue(desk, "min_free_disk = \"1000000TiB\"");
    }, "queue.min_free_disk", "/data", "make it smaller"),
];

#[test]
fn a_pattern_that_no_event_can_fit_is_warned_of() {
    const OWN: &str = "urn:altinn:organization:identifier-no:999888777";
    for (line, told) in [
        (
            "match.resource = [\"nabovarsel\"]",
            Some((RESOURCE, "write \"urn:altinn:resource:nabovarsel\"")),
        ),
        ("match.resource = [\"nabo*\"]", Some((RESOURCE, "write \"urn:altinn:resource:nabo*\""))),
        ("match.resource = [\"urn:altinn:resource:nabovarsel\"]", None),
        ("match.resource = [\"nabovarsel\"]\nmatch.from = [\"other\"]", None),
        ("match.resource = [\"nabovarsel\", \"*\"]", None),
        (
            "match.resource = [\"*\", \"nabovarsel\"]\nmatch.from = [\"innboks\"]",
            Some((RESOURCE, "item 2 fits no event")),
        ),
        (
            "match.subject = [\"999888777\"]",
            Some((
                "handlers.logg.match.subject",
                "write urn:altinn:organization:identifier-no:NUMBER",
            )),
        ),
        (
            "match.subject = [\"/organisation/999888777\"]",
            Some(("handlers.logg.match.subject", "no event bears it")),
        ),
        (&format!("match.subject = [\"{OWN}\"]"), None),
        ("match.subject = [\"*999888777\"]", None),
        ("match.type = [\"no.altinn.*\"]", None),
    ] {
        let desk = Desk::new();
        handler(&desk, line);
        let said = said(&desk);
        let Some((key, cure)) = told else {
            assert_eq!(said, "", "{line}");
            continue;
        };
        let start = format!("warning: {key}: item ");
        assert!(said.starts_with(&start) && said.contains(cure), "{line}: {said}");
        assert!(said.lines().count() == 1 && !said.contains("9998"), "{line}: {said}");
    }
}

#[test]
fn limits_that_work_against_each_other_are_warned_of() {
    for (line, key, cure) in [
        ("dedup_window = \"47h\"", "queue.dedup_window", "leave it out (90d)"),
        ("min_free_disk = \"1000000TiB\"", "queue.min_free_disk", "make it smaller"),
    ] {
        let desk = Desk::new();
        queue(&desk, line);
        let said = said(&desk);
        assert!(said.contains(&format!("warning: {key}: ")) && said.contains(cure), "{said}");
    }
    let desk = Desk::new();
    handler(&desk, "retry = { initial = \"1m\", give_up_after = \"59s\" }");
    let said = said(&desk);
    assert!(said.starts_with("warning: handlers.logg.retry.give_up_after: is shorter"), "{said}");
}
