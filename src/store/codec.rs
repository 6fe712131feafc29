//! Values as bytes: postcard's encoding of a type, in a frame of format version, kind, length and CRC32.
//!
//! Owns the frame; the type of a value belongs to whoever defines its kind. Reading is total:
//! any bytes give a value or [`Malformed`], and never more memory than they justify.

use serde::{Deserialize, Serialize};

/// Format of every value. A store with another one is refused.
pub(crate) const VERSION: u8 = 1;

/// Marks the kind of a value that goes on in parts.
const CHUNKED: u8 = 0x80;

/// The type of a value. The frame has it, so that one value cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(u8);

impl Kind {
    /// A part of a chunked value.
    pub(crate) const PART: Self = Self(8);
    /// The first page of a segment of the write-ahead log.
    pub(super) const SEGMENT: Self = Self(10);
    /// A commit in the write-ahead log.
    pub(super) const COMMIT: Self = Self(11);
    /// A note of the store about itself.
    pub(crate) const NOTE: Self = Self(12);

    /// A kind of the floor above: below [`CHUNKED`], and none of the store's own.
    pub(crate) const fn new(byte: u8) -> Self {
        assert!(byte < CHUNKED, "the highest bit marks chunked values");
        assert!(byte != 8 && (byte < 10 || byte > 12), "a kind of the store's own");
        Self(byte)
    }

    /// The kind that a value, or the stub of one, claims to be.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        value.get(1).map(|kind| Self(kind & !CHUNKED))
    }

    /// The bytes that every value of this kind begins with.
    pub(super) const fn tag(self) -> [u8; 2] {
        [VERSION, self.0]
    }

    const fn chunked(self) -> Self {
        Self(self.0 | CHUNKED)
    }
}

/// Bytes that are no value of the expected kind, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Malformed {
    /// Whole, but written in a format that is not ours.
    pub(crate) const VERSION: Self = Self("another format version");
}

/// Bytes of the frame before the payload: version, kind, length of the payload, checksum.
pub(crate) const FRAME: usize = 10;
/// Bytes of the frame before the checksum, which covers them.
const COVERED: usize = 6;

/// A value of this kind.
pub(crate) fn encode<T: Serialize + ?Sized>(kind: Kind, payload: &T) -> Vec<u8> {
    seal(kind, put(vec![0; FRAME], payload))
}

/// Adds a field to bytes.
#[expect(clippy::expect_used, reason = "memory takes it, and the length of all we write is known")]
pub(crate) fn put<T: Serialize + ?Sized>(bytes: Vec<u8>, field: &T) -> Vec<u8> {
    postcard::to_extend(field, bytes).expect("a field can be written")
}

/// Makes a value of its payload, which stands behind room for its frame.
pub(crate) fn seal(kind: Kind, mut value: Vec<u8>) -> Vec<u8> {
    let [version, kind] = kind.tag();
    // Everything stored is far below 4 GiB; a longer one would not read back.
    let payload = value.len().saturating_sub(FRAME);
    let [a, b, c, d] = u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes();
    let covered = [version, kind, a, b, c, d];
    if let Some((frame, payload)) = value.split_first_chunk_mut::<FRAME>() {
        let (before, after) = frame.split_at_mut(COVERED);
        before.copy_from_slice(&covered);
        after.copy_from_slice(&checksum(&covered, payload));
    }
    value
}

fn checksum(covered: &[u8], payload: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(covered);
    hasher.update(payload);
    hasher.finalize().to_be_bytes()
}

/// The value that begins here, as long as its frame says, and the bytes behind it. Nothing is checked.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(FRAME.checked_add(payload_len(bytes)?)?)
}

/// The length of the payload as the frame says it.
fn payload_len(value: &[u8]) -> Option<usize> {
    let len = value.get(2..COVERED)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(len)).ok()
}

/// The checksum as the frame says it.
pub(crate) fn crc(value: &[u8]) -> [u8; 4] {
    value.get(COVERED..FRAME).and_then(|crc| crc.try_into().ok()).unwrap_or_default()
}

/// The payload of a value of this kind, whose frame is checked.
pub(crate) fn open(kind: Kind, value: &[u8]) -> Result<&[u8], Malformed> {
    let (frame, payload) = value.split_first_chunk::<FRAME>().ok_or(Malformed("no frame"))?;
    let (covered, crc) = frame.split_at(COVERED);
    // Before the version: bytes that are not even whole are damage, not another format.
    if crc != checksum(covered, payload) {
        return Err(Malformed("its checksum is wrong"));
    }
    match covered {
        [version, ..] if *version != VERSION => Err(Malformed::VERSION),
        [_, byte, ..] if *byte != kind.0 => Err(Malformed("another kind of value")),
        _ => Ok(payload),
    }
}

/// The payload of a value, or the beginning of it if the value is chunked.
pub(crate) fn open_beginning(kind: Kind, value: &[u8]) -> Result<&[u8], Malformed> {
    let Some(stub) = Stub::of(value) else { return open(kind, value) };
    open(kind.chunked(), value)?;
    Ok(stub.payload())
}

/// Reads a value of this kind.
pub(crate) fn decode<'a, T: Deserialize<'a>>(kind: Kind, value: &'a [u8]) -> Result<T, Malformed> {
    let mut payload = open(kind, value)?;
    let value = take(&mut payload)?;
    if payload.is_empty() { Ok(value) } else { Err(Malformed("bytes are left over")) }
}

/// Reads the next field of a payload.
pub(crate) fn take<'a, T: Deserialize<'a>>(payload: &mut &'a [u8]) -> Result<T, Malformed> {
    let taken = postcard::take_from_bytes(payload);
    let (field, rest) = taken.map_err(|_| Malformed("its fields cannot be read"))?;
    *payload = rest;
    Ok(field)
}

/// What stands in the place of a chunked value: its payload is the beginning of that value, frame
/// and all.
#[derive(Debug)]
pub(crate) struct Stub<'a>(&'a [u8]);

impl<'a> Stub<'a> {
    /// The stub that a value is, its checksum unseen; `None` for a value that is not chunked.
    pub(crate) fn of(value: &'a [u8]) -> Option<Self> {
        value.get(1).filter(|kind| **kind & CHUNKED != 0)?;
        value.get(FRAME..).filter(|beginning| beginning.len() >= FRAME).map(Self)
    }

    /// The stub of a value that begins so.
    pub(super) fn encode(beginning: &[u8]) -> Vec<u8> {
        let kind = Kind::of(beginning).unwrap_or(Kind(0)).chunked();
        seal(kind, [&[0; FRAME], beginning].concat())
    }

    /// The beginning of the whole value.
    pub(crate) fn beginning(&self) -> &'a [u8] {
        self.0
    }

    /// The beginning of its payload.
    fn payload(&self) -> &'a [u8] {
        self.0.get(FRAME..).unwrap_or_default()
    }

    /// The length of the whole value.
    pub(crate) fn whole_len(&self) -> usize {
        FRAME + payload_len(self.0).unwrap_or(0)
    }

    /// The number of parts that follow it. Each is as long as the beginning of the payload, but for
    /// the last.
    pub(crate) fn parts(&self) -> u32 {
        let rest = self.whole_len().saturating_sub(self.0.len());
        let each = self.payload().len().max(1);
        u32::try_from(rest.div_ceil(each)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const KIND: Kind = Kind::new(1);

    /// Changes a value and seals it again.
    pub(crate) fn reseal(mut value: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        change(&mut value);
        let crc = checksum(&value[..COVERED], &value[FRAME..]);
        value[COVERED..FRAME].copy_from_slice(&crc);
        value
    }

    #[test]
    fn bytes_that_are_not_whole_are_damage_and_whole_ones_of_another_version_are_not() {
        let value = encode(KIND, &7_u64);
        assert_eq!(decode(KIND, &value), Ok(7_u64));
        let mut random = value.clone();
        random[0] = 0x5a;
        assert_eq!(open(KIND, &random), Err(Malformed("its checksum is wrong")));
        let next = reseal(value, |value| value[0] += 1);
        assert_eq!(open(KIND, &next), Err(Malformed::VERSION));
    }

    #[test]
    fn a_value_is_all_of_its_fields_and_nothing_else() {
        let pair = encode(KIND, &(1_u8, 2_u8));
        assert_eq!(decode(KIND, &pair), Ok((1_u8, 2_u8)));
        assert_eq!(decode::<u8>(KIND, &pair), Err(Malformed("bytes are left over")));
        assert!(decode::<(u8, u8, u8)>(KIND, &pair).is_err());
        assert_eq!(decode::<u8>(Kind::new(2), &pair), Err(Malformed("another kind of value")));
    }

    #[test]
    fn a_value_ends_where_its_frame_says() {
        let value = encode(KIND, "text");
        let more = [&value[..], b"more"].concat();
        assert_eq!(split(&more), Some((&value[..], &b"more"[..])));
        assert_eq!(split(&value[..value.len() - 1]), None);
    }
}
