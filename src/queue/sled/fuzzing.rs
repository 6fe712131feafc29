//! Doors for fuzz targets, which see only what is public. Nothing in the program uses them.

use super::{
    entry::{Cursor, Identity, Tried, Undecodable, decode_number, encode_number},
    mark::Mark,
    packing::Note,
    record::{Head, Packing, decode_group, encode_event},
    wire::{Get, Kind, Malformed, Put, Stub},
};

/// A value as it stands in the store, without the frame: one byte for its kind, then the payload,
/// which gets a frame that is right. Returns whether it is one. Panics if what was read is not
/// what is read when it is written again.
#[doc(hidden)]
pub fn fuzz_value(input: &[u8]) -> bool {
    let Some((kind, payload)) = input.split_first() else { return false };
    let (kind, again): (_, Again) = match kind {
        b'g' => (Kind::Group, group),
        b'i' => (Kind::Ids, |value| Ok(Head::decode_ids(value)?.encode_ids())),
        b'c' => (Kind::Cursor, |value| Ok(Cursor::decode(value)?.encode())),
        b'r' => (Kind::Retry, |value| Ok(Tried::decode(Kind::Retry, value)?.encode(Kind::Retry))),
        b'd' => (Kind::Dead, |value| Ok(Tried::decode(Kind::Dead, value)?.encode(Kind::Dead))),
        b'u' => (Kind::Raw, |value| Ok(Undecodable::decode(value)?.encode())),
        b'm' => (Kind::Meta, |value| Ok(Identity::decode(value)?.encode())),
        b'l' => (Kind::Meta, |value| Ok(Note::decode(value)?.encode())),
        b'n' => (Kind::Meta, |value| Ok(encode_number(decode_number(value)?))),
        _ => return false,
    };
    let mut put = Put::new(kind);
    put.raw(payload);
    holds(&put.seal(), again)
}

/// Bytes as they stand in the store, frame and all: a whole value, a stub or a part. Returns
/// whether they are one.
#[doc(hidden)]
pub fn fuzz_frame(input: &[u8]) -> bool {
    let kinds =
        [Kind::Group, Kind::Ids, Kind::Cursor, Kind::Retry, Kind::Dead, Kind::Raw, Kind::Meta];
    let whole = kinds.iter().filter(|kind| Get::open(**kind, input).is_ok()).count();
    let peeked = kinds.iter().filter(|kind| Get::peek(**kind, input).is_ok()).count();
    let part = Get::part(input, [0; 4], 1).is_ok();
    let stub = Stub::of(input).is_some_and(|stub| !stub.begin().is_empty());
    assert!(whole <= 1 && peeked <= 1, "of two kinds at once");
    assert!(whole <= peeked, "whole, but its beginning is not");
    drop((group(input), Tried::decode(Kind::Retry, input), Undecodable::decode(input)));
    whole == 1 || part || (stub && peeked == 1)
}

/// The high-water file. Returns whether it can be read.
#[doc(hidden)]
pub fn fuzz_mark(input: &[u8]) -> bool {
    let mut put = Put::new(Kind::Meta);
    put.raw(input);
    holds(&put.seal(), |value| Ok(Mark::decode(value)?.encode()));
    holds(input, |value| Ok(Mark::decode(value)?.encode()))
}

/// Reads a value and writes it again.
type Again = fn(&[u8]) -> Result<Vec<u8>, Malformed>;

fn group(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (head, events) = decode_group(value)?;
    assert_eq!(Head::decode(value), Ok(head.clone()), "the head alone is another");
    let mut packing = Packing::new(head.first, head.received);
    let mut ids = head.ids.as_slice();
    for stored in &events {
        packing.push(&encode_event(stored), std::mem::take(&mut ids));
    }
    Ok(packing.seal().1)
}

fn holds(value: &[u8], again: Again) -> bool {
    let Ok(once) = again(value) else { return false };
    assert_eq!(again(&once), Ok(once.clone()), "is another, again");
    true
}
