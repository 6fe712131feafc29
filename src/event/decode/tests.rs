use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::Attributes;

const ALTINN: &str = "application/json; charset=utf-8";

fn head(headers: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut head = HeaderMap::new();
    for (name, value) in headers.iter().map(pair) {
        head.append(name, value);
    }
    head
}

fn read(body: impl Into<Bytes>) -> Result<Vec<Event>, DecodeError> {
    decode(&head(&[("content-type", ALTINN)]), body.into(), Rules::Strict)
}

fn one(body: &str) -> Event {
    let mut events = read(body.to_owned()).unwrap_or_else(|fault| panic!("{fault}: {body}"));
    assert_eq!(events.len(), 1, "{body}");
    events.remove(0)
}

fn fault(body: impl Into<Bytes>) -> String {
    read(body).unwrap_err().to_string()
}

/// A good event with one member more or another value; `Value::Null` as text takes it away.
fn with(name: &str, value: Value) -> String {
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-08-20T10:00:00Z"});
    event[name] = value;
    event.to_string()
}

#[test]
fn what_altinn_sends_is_read_and_kept_byte_for_byte() {
    let bodies = [
        r#"{"specversion":"1.0","id":"694caa35-8b25-4cd7-b800-f6eeb93c56ed","source":"https://platform.altinn.no/events/api/v1/subscriptions/1234","type":"platform.events.validatesubscription"}"#,
        r#"{"specversion":"1.0","id":"1337","source":"https://ttd.apps.at22.altinn.cloud/ttd/apps-test","type":"automated.test","atta":"If the wolf eats your grandma","attb":"Give the wolf a banana"}"#,
        r#"{"specversion":"1.0","id":"1faa107f-3c0a-4fa6-9fce-7cee8838e258","type":"no.altinn.correspondence.correspondencepublished","time":"2026-08-20T10:00:00.1234567Z","resource":"urn:altinn:resource:nabovarsel","resourceinstance":"019ce781-a5c0-7d03-8f51-3e7dda66dd74","subject":"urn:altinn:organization:identifier-no:314249879","alternativesubject":"/organisation/314249879","source":"https://platform.tt02.altinn.no/correspondence/api/v1/correspondence"}"#,
        r#"{"id":"e31dbb11","resource":"urn:altinn:resource:app_nav_app","source":"https://nav.apps.altinn.no/nav/app/instances/1337/e31dbb11","specversion":"1.0","type":"instance.created","subject":"/party/12345","alternativesubject":"/person/01038712345","data":"data field","time":"2020-06-16T11:50:29.463221Z"}"#,
        r#"{"id":"e31dbb11","source":"urn:altinn:systemx","resource":"urn:altinn:resource:systemx","specversion":"1.0","type":"instance.deleted","subject":"/party/1337","time":"2020-10-13T11:50:29Z"}"#,
        r#"{"specversion":"1.0","id":"\u00E5 \u0026 \uD83D\uDE00","source":"/\u00F8","type":"t","subject":"bl\u00E5b\u00E6r \u0027\u002B\u0027","datacontenttype":"application/json","data":{"a":[1,2.50,1e3],"b":"\u003C"}}"#,
        "\r\n {\n \"specversion\" : \"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\" } \n",
    ];
    for body in bodies {
        let event = one(body);
        assert_eq!(event.json(), body.as_bytes());
        let read: Value = serde_json::from_str(body).unwrap();
        let Attributes { id, source, ty, subject, resource, .. } = event.attributes();
        assert_eq!((read["id"].as_str(), read["source"].as_str()), (Some(&**id), Some(&**source)));
        assert_eq!(
            (read["type"].as_str(), read["subject"].as_str()),
            (Some(&**ty), subject.as_deref())
        );
        assert_eq!(read["resource"].as_str(), resource.as_deref());
        assert_eq!(event.to_sdk().unwrap().data().is_some(), body.contains("\"data\""));
    }
    assert_eq!(one(bodies[5]).attributes().id, "å & 😀");
    assert_eq!(one(bodies[0]).attributes().time, None);
}

#[test]
fn the_media_type_is_told_by_the_headers_alone() {
    use MediaType::{Binary, Json};
    let structured: &[(&str, Option<MediaType>)] = &[
        (ALTINN, Some(Json)),
        ("application/json", Some(Json)),
        ("APPLICATION/Json ; Charset=\"UTF-8\"", Some(Json)),
        ("application/json;charset=utf-8;profile=x", Some(Json)),
        ("application/cloudevents+json", Some(Json)),
        ("Application/CloudEvents+JSON; charset=UTF-8", Some(Json)),
        ("application/cloudevents-batch+json", Some(Json)),
        ("application/json; charset=utf-16", None),
        ("application/cloudevents+json; charset=iso-8859-1", None),
        ("application/cloudevents+xml", None),
        ("application/cloudevents+protobuf", None),
        ("application/cloudevents", None),
        ("application/x-www-form-urlencoded", None),
        ("application/jsonp", None),
        ("text/plain", None),
        ("application/xml", None),
        ("", None),
    ];
    for (content_type, expected) in structured {
        let plain = head(&[("content-type", content_type)]);
        assert_eq!(media_type_of(&plain), *expected, "{content_type:?}");
        // With attributes in headers every type of data is an event, but for those that say
        // themselves that they are events.
        let is_event = content_type.to_ascii_lowercase().starts_with("application/cloudevents");
        let expected = if is_event { *expected } else { Some(Binary) };
        let binary = head(&[("content-type", content_type), ("ce-specversion", "1.0")]);
        assert_eq!(media_type_of(&binary), expected, "{content_type:?}");
    }
    assert_eq!(media_type_of(&head(&[])), None);
    assert_eq!(media_type_of(&head(&[("ce-specversion", "1.0")])), Some(Binary));
    let twice = [("content-type", ALTINN), ("content-type", ALTINN)];
    assert_eq!(media_type_of(&head(&twice)), None);
    let coded = |coding| head(&[("content-type", ALTINN), ("content-encoding", coding)]);
    assert_eq!(media_type_of(&coded("identity")), Some(Json));
    assert_eq!(media_type_of(&coded("gzip")), None);
}

#[test]
fn each_rule_is_held_and_named_with_its_attribute() {
    let long = "x".repeat(MAX_IDENTITY + 1);
    #[rustfmt::skip]
    let table = [
        ("specversion", json!("0.3"), "specversion is not 1.0, the only version that is read"),
        ("specversion", json!("1.1"), "specversion is not 1.0, the only version that is read"),
        ("specversion", json!("1.00"), "specversion is not 1.0, the only version that is read"),
        ("specversion", json!(""), "specversion is not 1.0, the only version that is read"),
        ("specversion", json!(1.0), "specversion is not a string"),
        ("specversion", Value::Null, "specversion is missing"),
        ("id", Value::Null, "id is missing"),
        ("id", json!(""), "id is empty"),
        ("id", json!(17), "id is not a string"),
        ("id", json!(long), "id is longer than 4096 bytes"),
        ("id", json!("a\u{0}b"), "id has control characters"),
        ("id", json!("a\nb"), "id has control characters"),
        ("source", Value::Null, "source is missing"),
        ("source", json!(""), "source is empty"),
        ("source", json!("has space"), "source is not a URI reference"),
        ("source", json!("1a:b"), "source is not a URI reference"),
        ("source", json!(":b"), "source is not a URI reference"),
        ("source", json!("/a%2"), "source is not a URI reference"),
        ("source", json!("/a%zz"), "source is not a URI reference"),
        ("source", json!("/a#b#c"), "source is not a URI reference"),
        ("source", json!("/<a>"), "source is not a URI reference"),
        ("source", json!(long), "source is longer than 4096 bytes"),
        ("type", Value::Null, "type is missing"),
        ("type", json!(true), "type is not a string"),
        ("type", json!({}), "type is not a string"),
        ("type", json!(long), "type is longer than 4096 bytes"),
        ("subject", json!(""), "subject is empty"),
        ("subject", json!(["a"]), "subject is not a string"),
        ("time", json!("yesterday"), "time is not an RFC 3339 time"),
        ("time", json!(1), "time is not a string"),
        ("dataschema", json!("no scheme"), "dataschema is not a URI"),
        ("datacontenttype", json!(1), "datacontenttype is not a string"),
        ("resource", json!({"a": 1}), "resource is not a string, boolean or integer"),
        ("resource", json!(1.5), "resource is not a string, boolean or integer"),
        ("Upper", json!("x"), "an attribute has a name that is not only a-z and 0-9"),
        ("with space 01017012345", json!("x"), "an attribute has a name that is not only a-z and 0-9"),
        ("", json!("x"), "an attribute has a name that is not only a-z and 0-9"),
        ("data_base64", json!("=no="), "data_base64 is not base64"),
        ("data_base64", json!(1), "data_base64 is not base64"),
    ];
    for (name, value, expected) in table {
        assert_eq!(fault(with(name, value.clone())), expected, "{name}={value}");
    }
}

#[test]
fn what_the_rules_allow_is_accepted() {
    let longest = "x".repeat(MAX_IDENTITY);
    #[rustfmt::skip]
    let table = [
        ("id", json!(longest)),
        ("id", json!("æøå 😀")),
        ("source", json!("urn:altinn:systemx")),
        ("source", json!("https://example.org:8080/a;b=c?d=e&f=%C3%A5#g")),
        ("source", json!("mailto:cncf-wg-serverless@lists.cncf.io")),
        ("source", json!("1-555-123-4567")),
        ("source", json!("#")),
        ("source", json!("a/b:c")),
        ("source", json!("/blåbær")),
        ("subject", Value::Null),
        ("time", Value::Null),
        ("time", json!("2026-08-20T10:00:00.1234567Z")),
        ("time", json!("2026-08-20t10:00:00.123z")),
        ("time", json!("2026-08-20T10:00:00+02:00")),
        ("time", json!("2026-08-20T10:00:00.123456789012-00:00")),
        ("time", json!("0001-01-01T00:00:00Z")),
        ("time", json!("9999-12-31T23:59:59.9999999Z")),
        ("time", json!("2016-12-31T23:59:60Z")),
        ("resource", json!(true)),
        ("resourceinstance", json!(-7)),
        ("resource", json!("")),
        ("partitionkey", json!("x")),
        ("a1", json!(i64::MAX)),
        ("data", json!({"deep": [[[{"x": null}]]]})),
        ("data", Value::Null),
        ("data", json!("text")),
        ("data_base64", json!("AAEC")),
        ("dataschema", json!("https://example.org/schema.json")),
    ];
    for (name, value) in table {
        let event = one(&with(name, value.clone()));
        event.to_sdk().unwrap();
        Event::from_json(event.json().clone()).unwrap();
    }
    assert_eq!(one(&with("resource", json!(true))).attributes().resource.as_deref(), Some("true"));
    let number = one(&with("resourceinstance", json!(-7)));
    assert_eq!(number.attributes().resourceinstance.as_deref(), Some("-7"));
}

#[test]
fn a_time_that_is_not_rfc_3339_is_refused() {
    for bad in [
        "2026-08-20",
        "2026-08-20T10:00Z",
        "2026-08-20T10:00:00",
        "2026-08-20 10:00:00Z",
        "2026-13-20T10:00:00Z",
        "2026-02-29T10:00:00Z",
        "2026-08-20T24:00:00Z",
        "2026-08-20T10:60:00Z",
        "2026-08-20T10:00:61Z",
        "2026-08-20T10:00:00.Z",
        "2026-08-20T10:00:00,5Z",
        "2026-08-20T10:00:00+2:00",
        "2026-08-20T10:00:00+0200",
        "2026-08-20T10:00:00+24:00",
        "2026-08-20T10:00:00+02:60",
        "26-08-20T10:00:00Z",
        "+002026-08-20T10:00:00Z",
        "2026-08-20T10:00:00Z ",
        "2026-08-20T10:00:00ZZ",
        "2026-08-20T10:00:00æ",
        "20æ6-08-20T10:00:0Z",
        "",
        "2026-08-20T10:00:00+aa:bb",
    ] {
        assert_eq!(fault(with("time", json!(bad))), "time is not an RFC 3339 time", "{bad}");
    }
}

#[test]
fn data_is_read_as_its_type_says() {
    use cloudevents::Data;
    let object = json!({"a": 1});
    let json_data = Data::Json(object.clone());
    #[rustfmt::skip]
    let good = [
        (None, object.clone(), json_data.clone()),
        (Some("application/json"), object.clone(), json_data.clone()),
        (Some("Application/JSON; charset=utf-8"), object.clone(), json_data.clone()),
        (Some("application/vnd.x+json; charset=utf-8"), object.clone(), json_data.clone()),
        (Some("application/json"), json!("text"), Data::Json(json!("text"))),
        (Some("text/plain"), json!("text"), Data::String("text".into())),
        (Some("application/xml"), json!("<a/>"), Data::String("<a/>".into())),
    ];
    for (ty, data, expected) in good {
        let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": ty, "data": data});
        let event = one(&event.to_string()).to_sdk().unwrap();
        assert_eq!(event.data(), Some(&expected), "{ty:?}");
    }
    let xml = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "application/xml", "data": object});
    assert_eq!(fault(xml.to_string()), "data is not what datacontenttype says");
    let both = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1, "data_base64": "AA=="});
    assert_eq!(fault(both.to_string()), "data and data_base64 exclude each other");
}

mod batches;
mod headers;
mod hostile;
mod lenient;
