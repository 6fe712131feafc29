//! Values that are larger than an entry: a stub in their place, and the rest in parts.
//!
//! Owns taking them apart and putting them together. A commit takes whole values and writes stub
//! and parts at once, and deletes them so, so that there are all of them or none.
//! [`open_beginning`](super::codec::open_beginning) reads the beginning of a value from its stub.

use std::borrow::Cow;

use serde_bytes::Bytes;

use super::{
    batch::Batch,
    codec::{self, FRAME, Kind, Malformed, Stub},
    error::Error,
    trees::PARTS,
    view::View,
};

/// Largest entry that is written: sled moves a leaf (17 values and a few changes to them) that is
/// larger than a quarter of a segment to a file that it never syncs.
pub(crate) const MAX_ENTRY: usize = 20 * 1024;
const _: () = assert!(MAX_ENTRY < super::directory::SEGMENT_SIZE / 4 / 24);

/// Bytes of a value in its stub, and in each of its parts.
pub(crate) const CHUNK: usize = 16 * 1024;
const _: () = assert!(CHUNK + 64 < MAX_ENTRY, "a stub or a part is an entry, too");

/// The largest value. A body of 1 MiB is at most six times as long once it is JSON.
pub(crate) const MAX_VALUE: usize = 8 * 1024 * 1024;

/// A part as it is written: the checksum of the whole value, the number of the part, its bytes.
pub(crate) type Part<'a> = ([u8; 4], u32, &'a Bytes);

/// A part of the chunked value with this key.
pub(super) fn part(of: &[u8], index: u32) -> Vec<u8> {
    [&[PARTS, b'|'], of, &index.to_be_bytes()].concat()
}

/// The key of the chunked value, and which part of it this is.
pub(crate) fn part_of(key: &[u8]) -> Option<(&[u8], u32)> {
    let (of, index) = key.strip_prefix(&[PARTS, b'|'])?.split_last_chunk()?;
    Some((of, u32::from_be_bytes(*index)))
}

/// A batch as it is written: large values taken apart, and removed ones with their parts.
/// `any` is whether there are parts in the store, so that their absence costs nothing.
pub(super) fn expand(view: &View, mut batch: Batch, any: &mut bool) -> Result<Batch, Error> {
    let is_large = |value: &Vec<u8>| value.len() > MAX_ENTRY;
    let comes = batch.0.iter().any(|(_, value)| value.as_ref().is_some_and(is_large));
    if !comes && !*any {
        return Ok(batch);
    }
    *any |= comes;
    // The store has the parts of what was there before this commit, not of an earlier change in it.
    batch.keep_last_of_each();
    let mut expanded = Batch::new();
    for (key, value) in batch.0 {
        let mut old = Batch::new();
        if view.may_be_chunked(&key) {
            stored_parts(view, &key, &mut old)?;
        }
        match value {
            Some(value) if is_large(&value) => {
                expanded.append(old);
                split(&key, &value, &mut expanded);
            }
            // A reader meanwhile misses the whole value, never a part.
            value => {
                expanded.0.push((key, value));
                expanded.append(old);
            }
        }
    }
    Ok(expanded)
}

/// Removes the parts that the store has of a value.
fn stored_parts(view: &View, key: &[u8], removed: &mut Batch) -> Result<(), Error> {
    for entry in view.range(part(key, 0)..=part(key, u32::MAX)) {
        let (found, _) = entry?;
        // Parts of longer keys that begin with this one lie between them.
        if part_of(&found).is_some_and(|(of, _)| of == key) {
            removed.remove(found.to_vec());
        }
    }
    Ok(())
}

/// Takes a value apart. Its stub comes last: a reader that sees it finds the parts.
fn split(key: &[u8], value: &[u8], into: &mut Batch) {
    let (beginning, rest) = value.split_at_checked(FRAME + CHUNK).unwrap_or((value, &[]));
    for (index, chunk) in (1..).zip(rest.chunks(CHUNK)) {
        let value: Part<'_> = (codec::crc(value), index, Bytes::new(chunk));
        into.put(part(key, index), codec::encode(Kind::PART, &value));
    }
    into.put(key, Stub::encode(beginning));
}

/// Bytes that an entry takes, its parts included.
pub(crate) fn size(key: &[u8], value: &[u8]) -> u64 {
    let len = Stub::of(value).map_or(value.len(), |stub| stub.whole_len());
    u64::try_from(key.len() + len).unwrap_or(u64::MAX)
}

/// A whole value, or why there is none; `None` if it was deleted meanwhile.
pub(crate) type Whole<'a> = Result<Option<Cow<'a, [u8]>>, Malformed>;

/// The whole of a value, with its parts, which may be deleted after `value` was read.
pub(crate) fn whole<'a>(view: &View, key: &[u8], value: &'a [u8]) -> Result<Whole<'a>, Error> {
    let Some(stub) = Stub::of(value) else { return Ok(Ok(Some(Cow::Borrowed(value)))) };
    match join(&stub, |index| view.get(&part(key, index)))? {
        Ok(whole) => Ok(Ok(Some(Cow::Owned(whole)))),
        Err(_) if view.get(key)?.is_none_or(|now| *now != *value) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
    }
}

/// Checks the parts. The whole value's own checksum is checked by who opens it.
pub(crate) fn join<T: AsRef<[u8]>, E>(
    stub: &Stub<'_>,
    mut part: impl FnMut(u32) -> Result<Option<T>, E>,
) -> Result<Result<Vec<u8>, Malformed>, E> {
    let mut whole = stub.beginning().to_vec();
    for index in 1..=stub.parts() {
        let Some(part) = part(index)? else { return Ok(Err(Malformed("a part of it is missing"))) };
        match codec::decode::<Part<'_>>(Kind::PART, part.as_ref()) {
            Ok((of, at, chunk)) if of == codec::crc(&whole) && at == index => {
                whole.extend_from_slice(chunk);
            }
            Ok(_) => return Ok(Err(Malformed("a part of another value"))),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(whole))
}
