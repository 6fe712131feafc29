use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn binary(headers: Headers<'_>, body: &[u8]) -> Result<Event, DecodeError> {
    let mut all =
        vec![("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    all.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
    all.extend_from_slice(headers);
    all.retain(|(_, value)| *value != "(absent)");
    let events = decode(&head(&all), Bytes::copy_from_slice(body), Rules::Strict)?;
    assert_eq!(events.len(), 1);
    Ok(events.into_iter().next().unwrap())
}

fn rendered(headers: Headers<'_>, body: &[u8]) -> Value {
    let event = binary(headers, body).unwrap_or_else(|fault| panic!("{fault}: {headers:?}"));
    event.to_sdk().unwrap();
    serde_json::from_slice(event.json()).unwrap()
}

#[test]
fn attributes_come_from_headers_and_data_from_the_body() {
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24.1234567+02:00"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("ce-comexampleextension1", "value"),
        ("accept", "*/*"),
    ];
    let event = binary(&headers, br#"{"b":1.50,"a":[]}"#).unwrap();
    // Sorted, with time and data as they were written.
    let expected = r#"{"comexampleextension1":"value","id":"1234-1234-1234","source":"/mycontext/subcontext","specversion":"1.0","time":"2018-04-05T03:56:24.1234567+02:00","type":"com.example.someevent","datacontenttype":"application/json; charset=utf-8","data":{"b":1.50,"a":[]}}"#;
    assert_eq!(event.json(), expected.as_bytes());
    assert_eq!(event.attributes().id, "1234-1234-1234");
}

#[test]
fn data_is_embedded_as_json_as_text_or_as_base64() {
    let png: &[u8] = &[0x89, b'P', 0xFF];
    #[rustfmt::skip]
    let table: &[(Option<&str>, &[u8], &str, Value)] = &[
        (Some("application/json"), b" [1] ", "data", json!([1])),
        (Some("application/vnd.x+json"), b"\"x\"", "data", json!("x")),
        (Some("Application/Vnd.X+JSON; charset=utf-8"), b"{\"a\":1}", "data", json!({"a": 1})),
        (Some("text/plain"), "blåbær".as_bytes(), "data", json!("blåbær")),
        (Some("text/xml; charset=utf-8"), b"<a/>", "data", json!("<a/>")),
        (Some("text/plain"), png, "data_base64", json!("iVD/")),
        (Some("text/plain; charset=iso-8859-1"), b"abc", "data_base64", json!("YWJj")),
        (Some("image/png"), png, "data_base64", json!("iVD/")),
        (Some("application/xml"), b"<a/>", "data_base64", json!("PGEvPg==")),
        (None, b"{}", "data_base64", json!("e30=")),
    ];
    for (content_type, body, member, expected) in table {
        let headers = content_type.map(|ty| vec![("content-type", ty)]).unwrap_or_default();
        let event = rendered(&headers, body);
        assert_eq!(event[member], *expected, "{content_type:?}");
        assert_eq!(event.get("datacontenttype").and_then(Value::as_str), *content_type);
    }
    for content_type in ["application/json", "text/plain", "image/png"] {
        let event = rendered(&[("content-type", content_type)], b"");
        assert!(event.get("data").is_none() && event.get("data_base64").is_none());
    }
}

#[test]
fn header_values_are_unquoted_and_percent_decoded_once() {
    // The examples of the HTTP binding, section 3.1.3.2, and its edges.
    #[rustfmt::skip]
    let table = [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%C3%A5", "å"),
        ("%c3%a5", "å"),
        ("%2541", "%41"),
        ("plain text", "plain text"),
        ("100%", "100%"),
        ("\"quoted\"", "quoted"),
        ("\"a \\\"b\\\" \\\\ c\"", "a \"b\" \\ c"),
        ("\"%20\"", " "),
        ("%22quoted%22", "\"quoted\""),
    ];
    for (value, expected) in table {
        assert_eq!(rendered(&[("ce-subject", value)], b"")["subject"], *expected, "{value}");
    }
}

#[test]
fn headers_that_are_no_event_are_refused_with_attribute_and_rule() {
    #[rustfmt::skip]
    let table: &[(Headers<'_>, &[u8], &str)] = &[
        (&[("ce-specversion", "0.3")], b"", "specversion is not 1.0, the only version that is read"),
        (&[("ce-id", "(absent)")], b"", "id is missing"),
        (&[("ce-source", "(absent)")], b"", "source is missing"),
        (&[("ce-type", "")], b"", "type is empty"),
        (&[("ce-id", "a"), ("ce-id", "b")], b"", "id is there twice"),
        (&[("ce-id", "%00")], b"", "id has control characters"),
        (&[("ce-subject", "%FF")], b"", "subject is not percent-encoded UTF-8"),
        (&[("ce-subject", "å")], b"", "subject is a header that is not ASCII"),
        (&[("ce-subject", "\"open")], b"", "subject is a quoted header without an end"),
        (&[("ce-subject", "\"a\"b")], b"", "subject is a quoted header without an end"),
        (&[("ce-time", "now")], b"", "time is not an RFC 3339 time"),
        (&[("ce-datacontenttype", "text/plain")], b"", "datacontenttype is not a header in binary mode"),
        (&[("ce-data", "x")], b"y", "data is not a header in binary mode"),
        (&[("ce-a_b", "x")], b"", "an attribute has a name that is not only a-z and 0-9"),
        (&[("ce-", "x")], b"", "an attribute has a name that is not only a-z and 0-9"),
        (&[("content-type", "application/json")], b"{", "data is not the JSON that its Content-Type says"),
        (&[("content-type", "application/json")], b"\xFF", "data is not UTF-8"),
    ];
    for (headers, body, expected) in table {
        let fault = binary(headers, body).unwrap_err().to_string();
        assert_eq!(fault, *expected, "{headers:?}");
    }
}

#[test]
fn a_body_of_json_may_nest_one_level_less_than_an_event() {
    let nested = |n: usize| [b"[".repeat(n), b"]".repeat(n)].concat();
    let json = [("content-type", "application/json")];
    rendered(&json, &nested(MAX_DEPTH - 1));
    let fault = binary(&json, &nested(MAX_DEPTH)).unwrap_err().to_string();
    assert_eq!(fault, "data is nested deeper than 63");
}

#[test]
fn an_event_in_headers_is_read_even_if_its_body_looks_like_another() {
    let body = br#"{"specversion":"1.0","id":"inner","source":"/i","type":"t"}"#;
    let event = binary(&[("content-type", "application/json")], body).unwrap();
    assert_eq!(event.attributes().id, "1");
}
