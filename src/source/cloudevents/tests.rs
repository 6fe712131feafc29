use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, header::CONTENT_TYPE};

use super::*;
use crate::{clock::Timestamp, secret::SecretFile};

const EVENT: &str = r#"{"specversion":"1.0","id":"1","type":"t","source":"/s"}"#;
/// The example of the Standard Webhooks specification.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODw==";
const SIGNED_AT: u64 = 1_614_265_330;
const SIGNED_BODY: &str = r#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secrets(
    text: &str,
    read: fn(&SecretFile) -> Result<HookSecrets, crate::secret::SecretError>,
) -> HookSecrets {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), text).unwrap();
    read(&SecretFile::resolve("s", folder.path()).unwrap()).unwrap()
}

fn source(auth: Auth, origins: &[&str]) -> CloudEvents {
    let allowed_origins = origins.iter().map(ToString::to_string).collect();
    CloudEvents { name: "other".parse().unwrap(), auth, allowed_origins }
}

fn with_bearer(origins: &[&str]) -> CloudEvents {
    source(
        Auth::Bearer(secrets("token-number-one1\ntoken+number/two=\n", HookSecrets::bearer)),
        origins,
    )
}

fn with_signatures(clock: Clock) -> CloudEvents {
    let keys = secrets(&format!("{OTHER_KEY}\n{KEY}\n"), HookSecrets::signing);
    source(Auth::StandardWebhooks { keys, tolerance: Duration::from_secs(300), clock }, &[])
}

fn at(seconds: u64) -> Clock {
    Clock::manual(Timestamp::from_millis(seconds * 1000))
}

fn head(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post("https://hooks.example.no/hooks/other");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn signed(changes: &[(&str, &str)]) -> Parts {
    let timestamp = SIGNED_AT.to_string();
    let mut headers = vec![
        ("content-type", "application/json"),
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", timestamp.as_str()),
        ("webhook-signature", SIGNATURE),
    ];
    headers.retain(|(name, _)| changes.iter().all(|(other, _)| other != name));
    headers.extend(changes.iter().filter(|(_, value)| *value != "(absent)"));
    head(&headers)
}

#[test]
fn a_bearer_token_is_looked_at_before_the_media_type() {
    let wrong = Err(Refusal::Unauthenticated);
    let table = [
        (Some("Bearer token-number-one1"), Ok(())),
        (Some("bearer token+number/two="), Ok(())),
        (Some("BEARER  token-number-one1"), Ok(())),
        (Some("Bearer token-number-one"), wrong.clone()),
        (Some("Bearer token-number-one1 x"), wrong.clone()),
        (Some("Bearer "), wrong.clone()),
        (Some("Bearer"), wrong.clone()),
        (Some("Basic token-number-one1"), wrong.clone()),
        (Some("token-number-one1"), wrong.clone()),
        (None, wrong.clone()),
    ];
    let source = with_bearer(&[]);
    for (value, expected) in table {
        let mut headers = vec![("content-type", "application/cloudevents+json")];
        headers.extend(value.map(|value| ("authorization", value)));
        assert_eq!(source.check(&head(&headers)), expected, "{value:?}");
    }
    let good = ("authorization", "Bearer token-number-one1");
    assert_eq!(source.check(&head(&[good])), Err(Refusal::UnsupportedMediaType));
    assert_eq!(source.check(&head(&[good, good, ("content-type", "application/json")])), wrong);
    assert_eq!(source.check(&head(&[("content-type", "text/html")])), wrong);
}

#[test]
fn events_are_of_their_source_alone_and_a_fault_is_told() {
    let source = with_bearer(&[]);
    let json = head(&[(CONTENT_TYPE.as_str(), "application/json")]);
    let admitted = source.admit(&json, Bytes::from(format!("[{EVENT},{EVENT}]"))).unwrap();
    let Admission::Events(arrivals) = admitted else { panic!("events") };
    assert_eq!(arrivals.len(), 2);
    let name: HookName = "other".parse().unwrap();
    assert_eq!(arrivals[0].origin, Origin::Source(name.clone()));
    assert_eq!(arrivals[0].from, [name]);
    assert_eq!(arrivals[0].only_by_hook, None);
    let refusal = source.admit(&json, Bytes::from(format!("[{EVENT},{{}}]"))).unwrap_err();
    let told = "event 1 of the batch: specversion is missing";
    assert_eq!(refusal, Refusal::Malformed(told.to_owned()));
}

#[test]
fn a_generic_sender_has_no_validation_event() {
    let json = head(&[(CONTENT_TYPE.as_str(), "application/json")]);
    let body = EVENT.replace("\"t\"", "\"platform.events.validatesubscription\"");
    assert!(matches!(with_bearer(&[]).admit(&json, body.into()), Ok(Admission::Events(_))));
}

#[test]
fn a_standard_webhooks_signature_proves_the_sender() {
    let refused = Refusal::Unauthenticated;
    let two = format!("v1,AAAA {SIGNATURE}");
    let with_others = format!("v1a,zzzz  v2,AAAA v1,!!! {SIGNATURE}");
    let other_version = SIGNATURE.replace("v1,", "v2,");
    let bare = SIGNATURE.replace("v1,", "");
    let many = format!("{} {SIGNATURE}", vec!["v1,AAAA"; 100].join(" "));
    // The body is no event, so that a good signature ends as a fault in the event.
    let genuine = Refusal::Malformed("specversion is missing".to_owned());
    #[rustfmt::skip]
    let table: Vec<(Vec<(&str, &str)>, &str, _)> = vec![
        (vec![], SIGNED_BODY, genuine.clone()),
        (vec![("webhook-signature", &two)], SIGNED_BODY, genuine.clone()),
        (vec![("webhook-signature", &with_others)], SIGNED_BODY, genuine),
        (vec![], r#"{"test": 2432232315}"#, refused.clone()),
        (vec![("webhook-id", "msg_x")], SIGNED_BODY, refused.clone()),
        (vec![("webhook-timestamp", "1614265331")], SIGNED_BODY, refused.clone()),
        (vec![("webhook-signature", "v1,AAAA")], SIGNED_BODY, refused.clone()),
        (vec![("webhook-signature", "v1,")], SIGNED_BODY, refused.clone()),
        (vec![("webhook-signature", &other_version)], SIGNED_BODY, refused.clone()),
        (vec![("webhook-signature", &bare)], SIGNED_BODY, refused.clone()),
        (vec![("webhook-signature", &many)], SIGNED_BODY, refused),
    ];
    let source = with_signatures(at(SIGNED_AT));
    for (changes, body, expected) in table {
        let head = signed(&changes);
        source.check(&head).unwrap();
        let refusal = source.admit(&head, Bytes::from(body.to_owned())).unwrap_err();
        assert_eq!(refusal, expected, "{changes:?}");
    }
}

#[test]
fn a_request_that_is_unsigned_or_signed_at_another_time_ends_before_its_body() {
    for (now, genuine) in [
        (SIGNED_AT, true),
        (SIGNED_AT + 300, true),
        (SIGNED_AT - 300, true),
        (SIGNED_AT + 301, false),
        (SIGNED_AT - 301, false),
        (0, false),
    ] {
        assert_eq!(with_signatures(at(now)).check(&signed(&[])).is_ok(), genuine, "{now}");
    }
    let source = with_signatures(at(SIGNED_AT));
    for (name, value) in [
        ("webhook-id", "(absent)"),
        ("webhook-timestamp", "(absent)"),
        ("webhook-signature", "(absent)"),
        ("webhook-id", ""),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "now"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "18446744073709551615"),
    ] {
        let refusal = source.check(&signed(&[(name, value)]));
        assert_eq!(refusal, Err(Refusal::Unauthenticated), "{name}={value}");
    }
    let twice = signed(&[("webhook-id", "a"), ("webhook-id", "a")]);
    assert_eq!(source.check(&twice), Err(Refusal::Unauthenticated));
    let text = signed(&[("content-type", "text/html")]);
    assert_eq!(source.check(&text), Err(Refusal::UnsupportedMediaType));
}

#[test]
fn options_allows_the_configured_origins_and_no_other() {
    let source = with_bearer(&["eventemitter.example.com", "trusted.example.com"]);
    for origin in ["trusted.example.com", "eventemitter.example.com", "Trusted.Example.COM"] {
        let asked = head(&[
            ("webhook-request-origin", origin),
            ("webhook-request-rate", "120"),
            ("webhook-request-callback", "https://169.254.169.254/"),
        ]);
        let Some(Handshake::Allowed(headers)) = source.handshake(&asked) else {
            panic!("{origin}")
        };
        assert_eq!(headers["webhook-allowed-origin"], origin);
        assert_eq!(headers["webhook-allowed-rate"], "*");
        assert_eq!(headers["allow"], "POST, OPTIONS");
        assert_eq!(headers.len(), 3);
    }
    for origin in [
        "trusted.example.com.attacker.tld",
        "xtrusted.example.com",
        "example.com",
        "*",
        "",
        "https://trusted.example.com",
        "trusted.example.com,eventemitter.example.com",
    ] {
        let asked = head(&[("webhook-request-origin", origin)]);
        assert_eq!(source.handshake(&asked), Some(Handshake::Denied), "{origin}");
    }
    assert_eq!(source.handshake(&head(&[])), Some(Handshake::Denied));
    let good = ("webhook-request-origin", "trusted.example.com");
    assert_eq!(source.handshake(&head(&[good, good])), Some(Handshake::Denied));
    assert_eq!(with_bearer(&[]).handshake(&head(&[good])), None);
}

/// The value of `webhook-signature` for this body.
fn sign(body: &str) -> String {
    let secret = BASE64_STANDARD.decode(KEY.trim_start_matches("whsec_")).unwrap();
    let message = format!("msg_p5jXN8AQM9LWM0D4loKWxJek.{SIGNED_AT}.{body}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

#[test]
fn a_signed_body_is_itself_whatever_the_headers_say() {
    let source = with_signatures(at(SIGNED_AT));
    let signature = sign(EVENT);
    let signature = ("webhook-signature", signature.as_str());
    // With the headers of binary mode its body would be the data of another event.
    let attributes =
        [("ce-specversion", "1.0"), ("ce-id", "2"), ("ce-source", "/other"), ("ce-type", "u")];
    for content_type in ["application/json", "text/plain", "application/vnd.x+json", ""] {
        let mut headers = vec![signature, ("content-type", content_type)];
        headers.extend(attributes);
        assert_eq!(source.check(&signed(&headers)), Err(Refusal::UnsignedAttributes));
        // Even if it came so far.
        let Ok(Admission::Events(arrivals)) = source.admit(&signed(&headers), Bytes::from(EVENT))
        else {
            panic!("events")
        };
        assert_eq!(arrivals[0].event.json(), EVENT.as_bytes(), "{content_type}");
    }
    // One attribute is enough.
    let one = signed(&[signature, ("ce-specversion", "1.0")]);
    assert_eq!(source.check(&one), Err(Refusal::UnsignedAttributes));
    // A structured or a batch media type says itself that the headers do not count.
    for content_type in ["application/cloudevents+json", "application/cloudevents-batch+json"] {
        let mut headers = vec![signature, ("content-type", content_type)];
        headers.extend(attributes);
        let head = signed(&headers);
        assert_eq!(source.check(&head), Ok(()));
        let Ok(Admission::Events(arrivals)) = source.admit(&head, Bytes::from(EVENT)) else {
            panic!("events")
        };
        assert_eq!(arrivals[0].event.attributes().id, "1", "{content_type}");
    }
}
