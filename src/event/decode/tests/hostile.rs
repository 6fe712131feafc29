use super::*;

fn nested(open: &str, n: usize, close: &str) -> String {
    let data = format!("{}1{}", open.repeat(n), close.repeat(n));
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#)
}

#[test]
fn nesting_is_bounded_before_it_can_hurt() {
    assert_eq!(read(nested("[", MAX_DEPTH - 1, "]")).unwrap().len(), 1);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for n in [MAX_DEPTH, 127, 128, 129, 10_000] {
            assert_eq!(fault(nested(open, n, close)), "the body is nested deeper than 64");
        }
    }
    assert_eq!(fault("[".repeat(1_000_000)), "the body is nested deeper than 64");
    // Brackets in strings do not nest.
    one(&with("data", json!("[{\"\\".repeat(1000))));
}

#[test]
fn attributes_are_bounded_in_number() {
    let event = |n: usize| {
        let more = (0..n).map(|i| format!(",\"a{i}\":\"\"")).collect::<Vec<_>>().concat();
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{more}}}"#)
    };
    one(&event(MAX_ATTRIBUTES - 4));
    for n in [MAX_ATTRIBUTES - 3, 10_000] {
        assert_eq!(fault(event(n)), "the body has more than 64 attributes");
    }
    let names: Vec<String> = (0..100).map(|i| format!("ce-a{i}")).collect();
    let mut headers = vec![("ce-specversion", "1.0")];
    headers.extend(names.iter().map(|name| (name.as_str(), "x")));
    let fault = decode(&head(&headers), Bytes::new(), Rules::Strict).unwrap_err().to_string();
    assert_eq!(fault, "the body has more than 64 attributes");
}

#[test]
fn a_key_that_is_there_twice_is_refused_however_it_is_written() {
    for (again, name) in [("\"id\"", "id"), ("\"\\u0069d\"", "id"), ("\"x\":1,\"x\"", "x")] {
        let body =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{again}:"2"}}"#);
        assert_eq!(fault(body), format!("{name} is there twice"));
    }
    // Within data it is the handler's matter.
    one(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1,"a":2}}"#);
}

#[test]
fn bytes_that_are_no_json_text_are_refused() {
    #[rustfmt::skip]
    let table: &[(&[u8], &str)] = &[
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"\xEF\xBB\xBF", "the body is empty"),
        (b"\xFF\xFE{\0}\0", "the body is not UTF-8"),
        (b"{\"id\":\"\xC3\"}", "the body is not UTF-8"),
        (b"\0", "the body is neither a JSON object nor an array"),
        (b"null", "the body is neither a JSON object nor an array"),
        (b"\"text\"", "the body is neither a JSON object nor an array"),
        (b"hello", "the body is neither a JSON object nor an array"),
        (b"{", "the body is not JSON (line 1, column 1)"),
        (b"{}", "specversion is missing"),
        (b"{} {}", "the body is not JSON (line 1, column 4)"),
        (b"{\"specversion\":\"1.0\"", "the body is not JSON (line 1, column 20)"),
        (b"{'id':1}", "the body is not JSON (line 1, column 2)"),
        (b"{\"text\": \"{}\"}", "specversion is missing"),
    ];
    for (body, expected) in table {
        assert_eq!(
            fault(Bytes::from_static(body)),
            *expected,
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn lone_surrogates_are_refused_wherever_they_are() {
    let event = |member: &str| {
        fault(format!(r#"{{"specversion":"1.0","source":"/s","type":"t",{member}}}"#))
    };
    assert_eq!(event(r#""id":"\ud800""#), "id is not Unicode");
    assert_eq!(event(r#""id":"\udc00\ud800""#), "id is not Unicode");
    let name = "an attribute has a name that is not only a-z and 0-9";
    assert_eq!(event(r#""id":"1","\ud800":"x""#), name);
    assert_eq!(event(r#""id":"1","data":"\ud800""#), "data is not what datacontenttype says");
}

#[test]
fn numbers_beyond_any_type_are_refused_or_kept_as_they_are() {
    let event = |data: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#)
    };
    let long = event(&"9".repeat(300));
    assert_eq!(one(&long).json(), long.as_bytes());
    assert_eq!(fault(event("1e999")), "data is not what datacontenttype says");
    assert!(fault(event("-")).starts_with("the body is not JSON"));
    assert!(fault(event("01")).starts_with("the body is not JSON"));
    assert!(fault(event("NaN")).starts_with("the body is not JSON"));
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let body = with("id", json!("1"));
    let events = read(format!("\u{FEFF}{body}")).unwrap();
    assert_eq!(events[0].json(), body.as_bytes());
}

#[test]
fn a_fault_never_quotes_a_value() {
    let secret = "01017012345";
    let names =
        ["specversion", "id", "source", "type", "subject", "time", "dataschema", "resource"];
    let values = [
        json!(format!("{secret}\u{7}")),
        json!([secret]),
        json!({secret: secret}),
        json!(format!(" {secret} ")),
        json!(1.5),
    ];
    let mut faults = 0;
    for (name, value) in names.iter().flat_map(|name| values.iter().map(move |v| (name, v))) {
        if let Err(fault) = read(with(name, value.clone())) {
            faults += 1;
            assert!(!fault.to_string().contains(secret), "{fault}");
        }
    }
    assert!(faults > 25, "{faults}");
    for body in [format!("{{\"{secret}æ\":1}}"), format!("{{\"id\":{secret}x}}"), secret.to_owned()]
    {
        assert!(!fault(body).contains(secret));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300), ty in 0..3) {
        for by in [Rules::Strict, Rules::Lenient] {
            drop(decode(&some_head(ty), Bytes::from(body.clone()), by));
        }
    }

    #[test]
    fn no_text_of_json_tokens_makes_it_panic(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..40),
        ty in 0..3,
    ) {
        for by in [Rules::Strict, Rules::Lenient] {
            drop(decode(&some_head(ty), Bytes::from(tokens.concat()), by));
        }
    }

    #[test]
    fn no_header_makes_it_panic(name in "ce-[a-z0-9_!]{0,8}", value in proptest::collection::vec(32_u8..=255, 0..30)) {
        let mut head = some_head(2);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
            head.append(name, value);
        }
        drop(decode(&head, Bytes::from_static(b"x"), Rules::Strict));
    }

    #[test]
    fn whatever_is_accepted_is_kept_exactly_and_can_be_read_again(
        id in "\\PC{1,20}", subject in "\\PC{1,20}", extension in any::<i64>(), data in "\\PC{0,20}",
    ) {
        let body = json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": subject, "x": extension, "data": data}).to_string();
        let event = read(body.clone()).unwrap().remove(0);
        prop_assert_eq!(event.json(), body.as_bytes());
        prop_assert_eq!(&event.attributes().id, &id);
        let again = read(event.json().clone()).unwrap().remove(0);
        prop_assert_eq!(again, event);
    }
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"specversion\"",
    "\"1.0\"",
    "\"id\"",
    "\"source\"",
    "\"type\"",
    "\"data\"",
    "\"data_base64\"",
    "\"time\"",
    "null",
    "true",
    "1",
    "1e9",
    "\"\\ud800\"",
    "\"é\"",
    " ",
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"",
    ",\"data\":",
    "}",
];

fn some_head(ty: i32) -> HeaderMap {
    let mut head =
        head(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/"), ("ce-type", "t")]);
    match ty {
        0 => drop(
            head.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json")),
        ),
        1 => drop(head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"))),
        _ => drop(head.remove(CONTENT_TYPE)),
    }
    head
}
