//! Doors for fuzz targets, which see only what is public. Nothing in the program uses them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    codec::{
        CURSOR, DEAD, GROUP, IDS, KEY, META, RAW, RETRY, Value,
        record::{Head, Packing, decode_group, encode_event},
        run::Run,
        values::{Cursor, DedupKey, LogBounds, Tried, Undecodable},
    },
    write::high_water::HighWater,
};
use crate::{
    name::HookName,
    store::codec::{FRAME, Malformed, Stub, open, open_beginning, seal},
};

/// A value as it stands in the store, without the frame: one byte for its kind, then the payload,
/// which gets a frame that is right. Returns whether it is one. Panics if what was read is not
/// what is read when it is written again.
#[doc(hidden)]
pub fn fuzz_value(input: &[u8]) -> bool {
    let Some((kind, payload)) = input.split_first() else { return false };
    let (kind, again): (_, Again) = match kind {
        b'g' => (GROUP, group),
        b'i' => (IDS, value::<Run>),
        b'c' => (CURSOR, value::<Cursor>),
        b'r' => (RETRY, |value| Ok(Tried::decode(RETRY, value)?.encode(RETRY))),
        b'd' => (DEAD, |value| Ok(Tried::decode(DEAD, value)?.encode(DEAD))),
        b'u' => (RAW, |value| Ok(Undecodable::decode(value)?.encode())),
        b'k' => (KEY, value::<DedupKey>),
        b'l' => (META, value::<LogBounds>),
        b'h' => (META, value::<BTreeSet<HookName>>),
        b'b' => (META, value::<Bytes>),
        b'n' => (META, value::<u64>),
        b'w' => (META, value::<HighWater>),
        _ => return false,
    };
    holds(&seal(kind, [&[0; FRAME], payload].concat()), again)
}

/// Bytes as they stand in the store, frame and all: a whole value or a stub. Returns
/// whether they are one.
#[doc(hidden)]
pub fn fuzz_frame(input: &[u8]) -> bool {
    let kinds = [GROUP, IDS, CURSOR, RETRY, DEAD, RAW, META, KEY];
    let whole = kinds.iter().filter(|kind| open(**kind, input).is_ok()).count();
    let begun = kinds.iter().filter(|kind| open_beginning(**kind, input).is_ok()).count();
    assert!(whole <= 1 && begun <= 1, "of two kinds at once");
    assert!(whole <= begun, "whole, but its beginning is not");
    drop((group(input), Tried::decode(RETRY, input), Undecodable::decode(input)));
    whole == 1 || (Stub::of(input).is_some() && begun == 1)
}

/// The high-water file. Returns whether it can be read.
#[doc(hidden)]
pub fn fuzz_high_water(input: &[u8]) -> bool {
    holds(input, value::<HighWater>)
}

/// Reads a value and writes it again.
type Again = fn(&[u8]) -> Result<Vec<u8>, Malformed>;

fn value<T: Value>(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(T::decode(value)?.encode())
}

fn group(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (head, events) = decode_group(value)?;
    assert_eq!(Head::decode(value), Ok(head.clone()), "the head alone is another");
    if events.is_empty() {
        return Ok(head.encode_gap());
    }
    let mut packing = Packing::new(head.first, head.received).with_ids(head.ids);
    for stored in &events {
        packing.push(&encode_event(stored), &[]);
    }
    Ok(packing.seal().1)
}

fn holds(value: &[u8], again: Again) -> bool {
    let Ok(once) = again(value) else { return false };
    assert_eq!(again(&once), Ok(once.clone()), "is another, again");
    true
}
