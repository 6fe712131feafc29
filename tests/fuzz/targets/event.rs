//! Requests with events in them.

use brevdue::{
    event::{
        Event,
        decode::{Rules, decode, decode_json, error::DecodeError},
    },
    handler::context::{self, Context},
};
use bytes::Bytes;
use cloudevents::{AttributesReader, Data};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A body as JSON: one event or a batch. Returns whether it was accepted.
pub(crate) fn json(input: &[u8]) -> bool {
    let body = Bytes::copy_from_slice(input);
    leniently(&body);
    let events = decode_json(body, Rules::Strict);
    check(&events, input);
    if let Ok(events) = &events {
        for event in events {
            let exact = event.json().as_ref();
            let found = exact.is_empty() || input.windows(exact.len()).any(|part| part == exact);
            assert!(found, "an event's bytes are not the request's");
        }
    }
    events.is_ok()
}

/// Read leniently, an event is stored and read again, and has its oddity whenever the rules refuse it.
fn leniently(body: &Bytes) {
    for event in decode_json(body.clone(), Rules::Lenient).unwrap_or_default() {
        let again = Event::from_json(event.json().clone());
        assert!(again.is_ok_and(|again| again.attributes() == event.attributes()), "not again");
        let strict = decode_json(event.json().clone(), Rules::Strict);
        assert_eq!(strict.err().as_ref(), event.oddity(), "its oddity is another");
        context::attributes(&event).expect("no handler can have it");
    }
}

/// Lines of `name: value`, an empty line, and a body, read in binary mode.
pub(crate) fn binary(input: &[u8]) -> bool {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (lines, body) = input.split_at(end);
    let body = body.strip_prefix(b"\n\n").unwrap_or(body);
    let mut head = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            head.append(name, value);
        }
    }
    let events = decode(&head, Bytes::copy_from_slice(body), Rules::Strict);
    check(&events, input);
    events.is_ok()
}

fn check(events: &Result<Vec<Event>, DecodeError>, input: &[u8]) {
    match events {
        Err(fault) => assert!(fault.to_string().len() < 200, "a fault that tells too much"),
        Ok(events) => {
            assert!(events.len() <= input.len().max(1), "more events than bytes");
            for event in events {
                let again = Event::from_json(event.json().clone());
                assert!(again.is_ok_and(|again| again == *event), "cannot be read again");
                let context = Context::read(event).expect("no handler can have it");
                data(&context, &event.to_sdk().expect("is none for the SDK"));
                let twice = decode_json(event.json().clone(), Rules::Strict);
                assert!(twice.is_ok_and(|twice| twice == [event.clone()]), "is another, again");
            }
        }
    }
}

/// What handlers get in binary mode is what the SDK reads.
fn data(ours: &Context, other: &cloudevents::Event) {
    let bytes = ours.data.as_ref().map(|(bytes, _)| bytes.as_slice());
    match other.data() {
        None => assert_eq!(bytes, None, "data that the SDK has not"),
        Some(Data::Binary(data)) => assert_eq!(bytes, Some(data.as_slice()), "other bytes"),
        Some(Data::String(text)) => assert_eq!(bytes, Some(text.as_bytes()), "other text"),
        Some(Data::Json(value)) => {
            let read = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
            assert_eq!(read.as_ref(), Some(value), "other JSON");
        }
    }
    assert_eq!(ours.attributes.get("id").map(String::as_str), Some(other.id()), "another id");
}
