use futures_util::FutureExt;
use http::Request;

use super::*;
use crate::{secret::SecretFile, source::secrets::HookSecrets};

const JSON: &str = "application/json; charset=utf-8";
const VALIDATION: &str = r#"{"specversion":"1.0","id":"694caa35","source":"https://platform.altinn.no/events/api/v1/subscriptions/1234","type":"platform.events.validatesubscription"}"#;
const EVENT: &str = r#"{"specversion":"1.0","id":"1","type":"published","resource":"urn:altinn:resource:nabovarsel","subject":"urn:altinn:organization:identifier-no:314249879","source":"/s"}"#;

fn altinn() -> (tempfile::TempDir, Altinn) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), "current-secret-01\nprevious-secret-1\n").unwrap();
    let file = SecretFile::resolve("s", folder.path()).unwrap();
    let name: HookName = "innboks".parse().unwrap();
    let secrets = HookSecrets::open(Some(&file), folder.path(), &name).unwrap();
    let subscription =
        |name: &str| Membership::new(name.parse().unwrap(), "urn:altinn:resource:nabovarsel");
    let subscriptions = vec![subscription("alle"), subscription("innboks")];
    let altinn = Altinn {
        name,
        secrets: Arc::new(secrets),
        subscriptions: Arc::new(subscriptions),
        validated: Arc::new(Notify::new()),
    };
    (folder, altinn)
}

fn head(query: &str, content_type: &str) -> Parts {
    let uri = format!("https://hooks.example.no/hooks/innboks{query}");
    let request = Request::post(uri).header(CONTENT_TYPE, content_type).body(()).unwrap();
    request.into_parts().0
}

fn admit(altinn: &Altinn, body: &str) -> Admission {
    altinn.admit(&head("", JSON), Bytes::from(body.to_owned())).unwrap()
}

fn names(arrival: &Arrival) -> Vec<&str> {
    arrival.from.iter().map(HookName::as_str).collect()
}

#[test]
fn the_secret_is_looked_at_before_the_media_type() {
    let (_folder, altinn) = altinn();
    let wrong = Err(Refusal::Unauthenticated);
    let table = [
        ("?code=current-secret-01", JSON, Ok(())),
        ("?code=previous-secret-1", JSON, Ok(())),
        ("?x=1&code=current-secret-01&y", JSON, Ok(())),
        ("?code=current%2Dsecret%2D01", JSON, Ok(())),
        ("?code=current-secret-01", "text/html", Err(Refusal::UnsupportedMediaType)),
        ("", JSON, wrong.clone()),
        ("?", JSON, wrong.clone()),
        ("?code=", JSON, wrong.clone()),
        ("?code", JSON, wrong.clone()),
        ("?code=current-secret-0", JSON, wrong.clone()),
        ("?code=current-secret-011", JSON, wrong.clone()),
        ("?code=Current-secret-01", JSON, wrong.clone()),
        ("?Code=current-secret-01", JSON, wrong.clone()),
        ("?code=current-secret-01&code=current-secret-01", JSON, wrong.clone()),
        ("?code=wrong&code=current-secret-01", JSON, wrong.clone()),
        ("?code=current-secret-01%0A", JSON, wrong.clone()),
        ("?code=wrong", "text/html", wrong),
    ];
    for (query, content_type, expected) in table {
        assert_eq!(altinn.check(&head(query, content_type)), expected, "{query} {content_type}");
    }
}

#[test]
fn a_validation_event_is_a_handshake_and_wakes_who_waits_for_it() {
    let (_folder, altinn) = altinn();
    assert_eq!(admit(&altinn, VALIDATION), Admission::Validation);
    assert!(altinn.validated.notified().now_or_never().is_some());
    assert!(matches!(admit(&altinn, EVENT), Admission::Events(_)));
    assert!(altinn.validated.notified().now_or_never().is_none());
}

#[test]
fn an_event_is_its_hooks_first_and_every_matching_subscriptions() {
    let (_folder, altinn) = altinn();
    let Admission::Events(arrivals) = admit(&altinn, EVENT) else { panic!("events") };
    assert_eq!(arrivals.len(), 1);
    assert_eq!(names(&arrivals[0]), ["innboks", "alle"]);
    assert_eq!(arrivals[0].event.json(), EVENT.as_bytes());
    let other = EVENT.replace("nabovarsel", "another");
    let Admission::Events(arrivals) = admit(&altinn, &other) else { panic!("events") };
    assert_eq!(names(&arrivals[0]), ["innboks"]);
}

#[test]
fn a_validation_event_in_a_batch_is_answered_and_the_others_are_stored() {
    let (_folder, altinn) = altinn();
    let Admission::Events(arrivals) = admit(&altinn, &format!("[{EVENT},{VALIDATION},{EVENT}]"))
    else {
        panic!("events")
    };
    assert_eq!(arrivals.len(), 2);
    assert!(altinn.validated.notified().now_or_never().is_some());
    assert_eq!(admit(&altinn, &format!("[{VALIDATION}]")), Admission::Validation);
    assert_eq!(admit(&altinn, "[]"), Admission::Events(vec![]));
}

#[test]
fn what_cannot_be_decoded_is_kept_as_it_came() {
    let (_folder, altinn) = altinn();
    for (body, reason) in [
        ("{\"text\": \"01017012345\"}", "specversion is missing"),
        ("", "the body is empty"),
        (&EVENT.replace("\"/s\"", "\"\""), "source is empty"),
        (&format!("[{EVENT},"), "the body is not JSON (line 1, column 169)"),
    ] {
        let push = RawPush {
            hook: "innboks".parse().unwrap(),
            media_type: JSON.to_owned(),
            body: Bytes::from(body.to_owned()),
        };
        let rest = vec![Undecodable { push, reason: reason.to_owned() }];
        assert_eq!(admit(&altinn, body), Admission::Undecodable { events: vec![], rest });
    }
}

#[test]
fn a_member_of_a_batch_that_is_no_event_is_kept_by_itself() {
    let (_folder, altinn) = altinn();
    let deep = format!(r#"{{"specversion":"1.0","data":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for bad in ["{}", "null", "[1, 2]", "\"æ\"", "7", &deep, "{\"id\":\"\\ud800\",\"å\":1}"] {
        let batch = format!("[ {EVENT} ,\n{bad}, {VALIDATION},{EVENT}]");
        let Admission::Undecodable { events, rest } = admit(&altinn, &batch) else {
            panic!("{bad}")
        };
        assert_eq!(events.len(), 2, "{bad}");
        assert!(events.iter().all(|arrival| arrival.event.json() == EVENT.as_bytes()));
        let bodies: Vec<_> = rest.iter().map(|one| one.push.body.as_ref()).collect();
        assert_eq!(bodies, [bad.as_bytes()]);
        assert!(rest[0].reason.starts_with("event 1 of the batch: "), "{}", rest[0].reason);
    }
    // Bytes that are no UTF-8 are within their member.
    let batch = [b"[{\"id\":\"\xe5\xff\"},", EVENT.as_bytes(), b"]"].concat();
    let admitted = altinn.admit(&head("", JSON), batch.into()).unwrap();
    let Admission::Undecodable { events, rest } = admitted else { panic!("{admitted:?}") };
    assert_eq!(events[0].event.json(), EVENT.as_bytes());
    assert_eq!(rest[0].push.body.as_ref(), b"{\"id\":\"\xe5\xff\"}");
    assert_eq!(rest[0].reason, "event 0 of the batch: the body is not UTF-8");
}

#[test]
fn what_breaks_a_rule_is_an_event_all_the_same() {
    let (_folder, altinn) = altinn();
    let odd = EVENT.replace("\"/s\"", "\"https://a.no/{id} %zz\"");
    let Admission::Events(arrivals) = admit(&altinn, &odd) else { panic!("events") };
    assert_eq!(arrivals[0].event.json(), odd.as_bytes());
    assert_eq!(names(&arrivals[0]), ["innboks", "alle"]);
    let oddity = arrivals[0].event.oddity().map(ToString::to_string);
    assert_eq!(oddity.as_deref(), Some("source is not a URI reference"));
}

#[test]
fn what_was_kept_is_decoded_anew_for_all_whose_it_is() {
    let (_folder, altinn) = altinn();
    let decoded = |body: String| {
        let media_type = "application/cloudevents+json".to_owned();
        let push = RawPush { hook: altinn.name.clone(), media_type, body: body.into() };
        again(&altinn.subscriptions, &push)
    };
    let odd = EVENT.replace("\"/s\"", "\"C:\\\\x\"");
    let arrivals = decoded(format!("[{odd},{VALIDATION}]")).unwrap();
    assert_eq!((arrivals.len(), arrivals[0].event.json().as_ref()), (1, odd.as_bytes()));
    assert_eq!(names(&arrivals[0]), ["innboks", "alle"]);
    assert!(decoded(VALIDATION.to_owned()).unwrap().is_empty());
    assert_eq!(decoded("{".to_owned()).unwrap_err().at(), "the body");
}

#[test]
fn altinn_has_no_handshake_by_options() {
    let (_folder, altinn) = altinn();
    assert_eq!(altinn.handshake(&head("", JSON)), None);
}
