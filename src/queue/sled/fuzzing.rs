//! Doors for fuzz targets, which see only what is public. Nothing in the program uses them.

use super::{
    codec::{
        CURSOR, DEAD, GROUP, IDS, KEY, META, RAW, RETRY,
        record::{Head, Packing, decode_group, encode_event},
        run::Run,
        values::{
            Cursor, LogBounds, Tried, Undecodable, decode_bookmark, decode_hooks, decode_key,
            decode_number, encode_bookmark, encode_hooks, encode_key, encode_number,
        },
    },
    write::high_water::HighWater,
};
use crate::store::codec::{Decoder, Encoder, Malformed, Stub};

/// A value as it stands in the store, without the frame: one byte for its kind, then the payload,
/// which gets a frame that is right. Returns whether it is one. Panics if what was read is not
/// what is read when it is written again.
#[doc(hidden)]
pub fn fuzz_value(input: &[u8]) -> bool {
    let Some((kind, payload)) = input.split_first() else { return false };
    let (kind, again): (_, Again) = match kind {
        b'g' => (GROUP, group),
        b'i' => (IDS, |value| Ok(Run::decode(value)?.encode())),
        b'c' => (CURSOR, |value| Ok(Cursor::decode(value)?.encode())),
        b'r' => (RETRY, |value| Ok(Tried::decode(RETRY, value)?.encode(RETRY))),
        b'd' => (DEAD, |value| Ok(Tried::decode(DEAD, value)?.encode(DEAD))),
        b'u' => (RAW, |value| Ok(Undecodable::decode(value)?.encode())),
        b'k' => (KEY, |value| Ok(encode_key(&decode_key(value)?))),
        b'l' => (META, |value| Ok(LogBounds::decode(value)?.encode())),
        b'h' => (META, |value| Ok(encode_hooks(decode_hooks(value)?.iter()))),
        b'b' => (META, |value| Ok(encode_bookmark(&decode_bookmark(value)?))),
        b'n' => (META, |value| Ok(encode_number(decode_number(value)?))),
        _ => return false,
    };
    let mut put = Encoder::new(kind);
    put.raw(payload);
    holds(&put.seal(), again)
}

/// Bytes as they stand in the store, frame and all: a whole value or a stub. Returns
/// whether they are one.
#[doc(hidden)]
pub fn fuzz_frame(input: &[u8]) -> bool {
    let kinds = [GROUP, IDS, CURSOR, RETRY, DEAD, RAW, META, KEY];
    let whole = kinds.iter().filter(|kind| Decoder::open(**kind, input).is_ok()).count();
    let peeked = kinds.iter().filter(|kind| Decoder::peek(**kind, input).is_ok()).count();
    let stub = Stub::of(input).is_some_and(|stub| !stub.beginning().is_empty());
    assert!(whole <= 1 && peeked <= 1, "of two kinds at once");
    assert!(whole <= peeked, "whole, but its beginning is not");
    drop((group(input), Tried::decode(RETRY, input), Undecodable::decode(input)));
    whole == 1 || (stub && peeked == 1)
}

/// The high-water file. Returns whether it can be read.
#[doc(hidden)]
pub fn fuzz_high_water(input: &[u8]) -> bool {
    let mut put = Encoder::new(META);
    put.raw(input);
    holds(&put.seal(), |value| Ok(HighWater::decode(value)?.encode()));
    holds(input, |value| Ok(HighWater::decode(value)?.encode()))
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
