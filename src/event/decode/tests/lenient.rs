use super::*;

fn leniently(body: impl Into<Bytes>) -> Result<Vec<Event>, DecodeError> {
    decode(&head(&[("content-type", ALTINN)]), body.into(), Rules::Lenient)
}

/// A good event, with these members, as JSON, in place of its own or beside them.
fn event(members: &[(&str, &str)]) -> String {
    let good =
        [("specversion", "\"1.0\""), ("id", "\"1\""), ("source", "\"/s\""), ("type", "\"t\"")];
    let own = good.iter().filter(|(name, _)| members.iter().all(|(other, _)| other != name));
    let all: Vec<_> =
        own.chain(members).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", all.join(","))
}

#[test]
fn what_only_breaks_a_rule_is_kept_byte_for_byte_and_its_oddity_is_told() {
    let not_a_uri = "source is not a URI reference";
    let name = "an attribute has a name that is not only a-z and 0-9";
    #[rustfmt::skip]
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("source", r#""https://a.no/a b""#)], not_a_uri),
        (&[("source", r#""https://a.no/{id}""#)], not_a_uri),
        (&[("source", r#""urn:x|y""#)], not_a_uri),
        (&[("source", r#""C:\\x""#)], not_a_uri),
        (&[("source", r#""https://a.no/%zz""#)], not_a_uri),
        (&[("source", r#"" ""#)], not_a_uri),
        (&[("source", r#""a\u0000b\u001b[2J""#)], "source has control characters"),
        (&[("specversion", r#""0.3""#)], "specversion is not 1.0, the only version that is read"),
        (&[("time", r#""yesterday""#)], "time is not an RFC 3339 time"),
        (&[("time", "{}")], "time is not a string"),
        (&[("subject", r#""""#)], "subject is empty"),
        (&[("subject", "7")], "subject is not a string"),
        (&[("dataschema", r#""no scheme""#)], "dataschema is not a URI"),
        (&[("resource", "[1]")], "resource is not a string, boolean or integer"),
        (&[("resource", "1.5")], "resource is not a string, boolean or integer"),
        (&[("n", "18446744073709551616")], "n is not a string, boolean or integer"),
        (&[("dataContentType", r#""x""#)], name),
        (&[("", r#""x""#)], name),
        (&[(r"\ud800", "1")], name),
        (&[("x", r#""\ud800""#)], "x is not Unicode"),
        (&[("data", "1e999")], "data is not what datacontenttype says"),
        (&[("data", r#""\ud800""#)], "data is not what datacontenttype says"),
        (&[("datacontenttype", r#""text/plain""#), ("data", "{}")], "data is not what datacontenttype says"),
        (&[("data_base64", r#""=no=""#)], "data_base64 is not base64"),
        (&[("data", "1"), ("data_base64", r#""AA==""#)], "data and data_base64 exclude each other"),
        (&[("x", "1"), ("x", "2")], "x is there twice"),
    ];
    for (members, oddity) in table {
        let body = event(members);
        let events = leniently(body.clone()).unwrap_or_else(|fault| panic!("{fault}: {body}"));
        assert_eq!(events[0].json(), body.as_bytes());
        assert_eq!(events[0].oddity().map(ToString::to_string).as_deref(), Some(*oddity), "{body}");
        let again = Event::from_json(events[0].json().clone()).unwrap();
        assert_eq!(again.attributes(), events[0].attributes(), "{body}");
        assert_eq!(read(body).unwrap_err().to_string(), *oddity, "the rules say the same");
    }
    assert_eq!(leniently(event(&[])).unwrap()[0].oddity(), None);
}

#[test]
fn what_cannot_be_routed_is_unreadable_all_the_same() {
    let long = format!("\"{}\"", "x".repeat(MAX_IDENTITY + 1));
    for name in ["specversion", "id", "source", "type"] {
        for (value, rule) in [
            ("null", "is missing"),
            ("\"\"", "is empty"),
            ("7", "is not a string"),
            ("{}", "is not a string"),
            ("\"\\ud800\"", "is not a string"),
            (long.as_str(), "is longer than 4096 bytes"),
        ] {
            let fault = leniently(event(&[(name, value)])).unwrap_err();
            assert_eq!(fault.to_string(), format!("{name} {rule}"));
        }
    }
    let many: Vec<_> = (0..61).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(
        leniently(event(&many)).unwrap_err().to_string(),
        "the body has more than 64 attributes"
    );
    let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    assert!(leniently(event(&[("data", &deep)])).unwrap_err().to_string().contains("deeper"));
    for body in ["", "7", "null", "{", "{\"id\":1}x", "\"{}\""] {
        assert!(leniently(body).is_err(), "{body}");
    }
    assert!(leniently(b"{\"id\":\"\xff\"}".as_slice()).is_err());
}

#[test]
fn a_null_member_is_an_absent_one_by_either_rules() {
    for members in [
        &[("data", "{\"a\":1}"), ("data_base64", "null")][..],
        &[("data", "null"), ("data_base64", "\"AAE=\"")],
        &[("data", "null"), ("data_base64", "null")],
        &[("data", "null"), ("datacontenttype", "\"text/plain\"")],
        &[("datacontenttype", "null"), ("data", "[1]")],
        &[("time", "null"), ("subject", "null"), ("dataschema", "null"), ("resource", "null")],
        &[("Odd Name", "null"), ("id", "null"), ("id", "\"2\""), ("", "null")],
    ] {
        let body = event(members);
        for by in [Rules::Strict, Rules::Lenient] {
            let event = decode_json(Bytes::from(body.clone()), by);
            let event = event.unwrap_or_else(|fault| panic!("{fault}: {body}")).remove(0);
            assert_eq!((event.json().as_ref(), event.oddity()), (body.as_bytes(), None));
            event.to_sdk().unwrap();
        }
    }
    // Null members do not count against the limit.
    let many: Vec<_> = (0..100).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "null")).collect();
    assert!(read(event(&many)).is_ok());
}

#[test]
fn of_a_member_that_is_there_twice_the_last_one_counts() {
    let body =
        event(&[("id", "\"first\""), ("id", "\"second\""), ("subject", "1"), ("subject", "true")]);
    let event = leniently(body).unwrap().remove(0);
    assert_eq!(event.attributes().id, "second");
    assert_eq!(event.attributes().subject.as_deref(), Some("true"));
}
