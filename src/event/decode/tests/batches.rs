use super::*;

const ONE: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1.50}"#;
const TWO: &str =
    "{\n \"id\":\"\\u00e5\", \"specversion\":\"1.0\",\"source\":\"/s\",\"type\":\"t\"}";

#[test]
fn every_event_of_a_batch_keeps_its_exact_bytes() {
    let body = format!("[ {ONE} ,\n{TWO}]");
    for content_type in [
        "application/cloudevents-batch+json",
        ALTINN,
        "application/cloudevents+json; charset=utf-8",
    ] {
        let head = head(&[("content-type", content_type)]);
        let events = decode(&head, Bytes::from(body.clone()), Rules::Strict).unwrap();
        let bytes: Vec<&[u8]> = events.iter().map(|event| event.json().as_ref()).collect();
        assert_eq!(bytes, [ONE.as_bytes(), TWO.as_bytes()], "{content_type}");
    }
}

#[test]
fn a_single_event_under_the_batch_type_is_one_event() {
    let head = head(&[("content-type", "application/cloudevents-batch+json")]);
    assert_eq!(decode(&head, Bytes::from(ONE), Rules::Strict).unwrap().len(), 1);
}

#[test]
fn an_empty_batch_is_no_event_and_no_fault() {
    assert_eq!(read("[]").unwrap(), []);
    assert_eq!(read(" [ ] ").unwrap(), []);
}

#[test]
fn one_bad_event_spoils_the_batch_and_is_named_by_its_place() {
    let bad = r#"{"specversion":"1.0","id":"3","source":"/s"}"#;
    assert_eq!(fault(format!("[{ONE},{TWO},{bad}]")), "event 2 of the batch: type is missing");
    assert_eq!(
        fault(format!("[{ONE},7]")),
        "event 1 of the batch: the body is not JSON (line 1, column 1)"
    );
    assert!(fault(format!("[{ONE},[{TWO}]]")).starts_with("event 1 of the batch: "));
    assert!(fault(format!("[{ONE},]")).starts_with("the body is not JSON"));
    assert!(fault(format!("[{ONE}] x")).starts_with("the body is not JSON"));
}

#[test]
fn a_batch_of_a_thousand_is_read_and_of_one_more_is_not() {
    let batch = |n: usize| format!("[{}]", vec![ONE; n].join(","));
    assert_eq!(read(batch(MAX_BATCH)).unwrap().len(), MAX_BATCH);
    assert_eq!(fault(batch(MAX_BATCH + 1)), "the body has more than 1000 events");
}
