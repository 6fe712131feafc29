//! Values that are too large for one record: a stub in their place, and the rest in parts.
//!
//! Owns taking them apart and putting them together. Everything else hands over and gets whole
//! values; [`super::wire::Get::peek`] reads what stands at the beginning of one from its stub.
//! Stub and parts are written and deleted in one batch, so that there are all of them or none.

use std::{borrow::Cow, collections::HashSet};

use super::{
    database::Db,
    keys,
    reader::ReadError,
    record::MAX_RECORD,
    wire::{FRAME, Get, Malformed, Put, Stub},
    writer::Entries,
};

/// Bytes of a value in its stub, and in each of its parts.
pub(super) const CHUNK: usize = 16 * 1024;
/// The same in the first stores, which had larger segments.
pub(super) const FIRST_CHUNK: usize = 64 * 1024;
const _: () = assert!(CHUNK + 64 < MAX_RECORD, "a part is a record, too");

/// The largest value. A body of 1 MiB is at most six times as long once it is JSON.
pub(super) const MAX_VALUE: usize = 8 * 1024 * 1024;

/// Entries as they are written: long values taken apart, and deleted with their parts.
/// `any` is whether there are parts in the store, so that their absence costs nothing.
pub(super) fn expand(db: &Db, entries: Entries, any: &mut bool) -> sled::Result<Entries> {
    let long = |value: &Vec<u8>| value.len() > MAX_RECORD;
    let comes = entries.iter().any(|(_, value)| value.as_ref().is_some_and(long));
    if !comes && !*any {
        return Ok(entries);
    }
    *any |= comes;
    let mut expanded = Entries::new();
    // What this commit itself writes is not to be looked for on disk.
    let mut written = HashSet::new();
    for (key, value) in entries {
        let mut old = Entries::new();
        if may_have_parts(&key) && !written.contains(&key) {
            for part in db.range(keys::parts(&key)).keys() {
                old.push((part?.to_vec(), None));
            }
        }
        match value {
            Some(value) if long(&value) => {
                written.insert(key.clone());
                expanded.append(&mut old);
                split(key, &value, &mut expanded);
            }
            // Who reads meanwhile misses the whole of it, not a part.
            value => {
                expanded.push((key, value));
                expanded.append(&mut old);
            }
        }
    }
    Ok(expanded)
}

fn may_have_parts(key: &[u8]) -> bool {
    [keys::EVENTS, keys::RETRIES, keys::DEAD, keys::RAW]
        .iter()
        .any(|kind| key.first() == Some(kind))
}

fn split(key: Vec<u8>, value: &[u8], into: &mut Entries) {
    let payload = value.get(FRAME..).unwrap_or_default();
    let (first, rest) = payload.split_at_checked(CHUNK).unwrap_or((payload, &[]));
    for (index, chunk) in (1..).zip(rest.chunks(CHUNK)) {
        into.push((keys::part(&key, index), Some(Put::part(value, index, chunk))));
    }
    into.push((key, Some(Put::stub(value, first))));
}

/// Bytes that an entry takes, its parts included.
pub(super) fn size(key: &[u8], value: &[u8]) -> u64 {
    let len = Stub::of(value).map_or(value.len(), |stub| FRAME + stub.len);
    u64::try_from(key.len() + len).unwrap_or(u64::MAX)
}

/// The whole value. None if it was deleted between the reading of `value` and of its parts.
pub(super) fn whole<'a>(
    db: &Db,
    key: &[u8],
    value: &'a [u8],
) -> Result<Option<Cow<'a, [u8]>>, ReadError> {
    let Some(stub) = Stub::of(value) else { return Ok(Some(Cow::Borrowed(value))) };
    match join(&stub, |index| db.get(keys::part(key, index)))? {
        Ok(whole) => Ok(Some(Cow::Owned(whole))),
        Err(_) if db.get(key)?.is_none_or(|now| *now != *value) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Checksums of the parts are looked at here; the whole one's is looked at by [`Get::open`].
pub(super) fn join<T: AsRef<[u8]>, E>(
    stub: &Stub<'_>,
    mut part: impl FnMut(u32) -> Result<Option<T>, E>,
) -> Result<Result<Vec<u8>, Malformed>, E> {
    const MISSING: Malformed = Malformed("a part of it is missing");
    if stub.len > MAX_VALUE {
        return Ok(Err(Malformed("a length")));
    }
    let mut whole = stub.begin();
    let mut index = 0;
    while whole.len() < FRAME + stub.len {
        index += 1;
        let Some(part) = part(index)? else { return Ok(Err(MISSING)) };
        match Get::part(part.as_ref(), stub.crc, index) {
            Ok(chunk) if !chunk.is_empty() => whole.extend_from_slice(chunk),
            Ok(_) => return Ok(Err(MISSING)),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(whole))
}
