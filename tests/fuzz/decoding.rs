//! What must hold of any request, and of anything in the store, whatever its bytes: shared by the fuzz targets and by
//! `tests/corpus.rs`, which replays their corpus in ordinary tests.

use brevdue::event::{
    Event,
    decode::{decode, decode_json, error::DecodeError},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A body as JSON: one event or a batch. Returns whether it was accepted.
pub(crate) fn json(input: &[u8]) -> bool {
    let body = Bytes::copy_from_slice(input);
    let events = decode_json(body);
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
    let events = decode(&head, Bytes::copy_from_slice(body));
    check(&events, input);
    events.is_ok()
}

/// A value of the store: a byte for its kind and the payload.
pub(crate) fn value(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_value(input)
}

/// A value of the store with its frame.
pub(crate) fn frame(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_frame(input)
}

/// The store's high-water file.
pub(crate) fn mark(input: &[u8]) -> bool {
    brevdue::queue::sled::fuzz_mark(input)
}

/// A segment of the store's write-ahead log, or the changes of a commit in one.
pub(crate) fn wal(input: &[u8]) -> bool {
    brevdue::store::fuzz_wal(input)
}

fn check(events: &Result<Vec<Event>, DecodeError>, input: &[u8]) {
    match events {
        Err(fault) => assert!(fault.to_string().len() < 200, "a fault that tells too much"),
        Ok(events) => {
            assert!(events.len() <= input.len().max(1), "more events than bytes");
            for event in events {
                let again = Event::from_json(event.json().clone());
                assert!(again.is_ok_and(|again| again == *event), "cannot be read again");
                assert!(event.to_sdk().is_ok(), "is none for the SDK");
                let twice = decode_json(event.json().clone());
                assert!(twice.is_ok_and(|twice| twice == [event.clone()]), "is another, again");
            }
        }
    }
}
