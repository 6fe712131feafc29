//! Bytes in and out of a value, and the frame around each: format version, kind, CRC32.
//!
//! Owns the primitives; what a value holds belongs to whoever defines its kind. Reading is total:
//! any bytes give a value or [`Malformed`], and never more memory than they justify.

/// Format of every value. A store with another one is refused.
pub(crate) const VERSION: u8 = 1;

/// What a value is. The frame has it, so that one value cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u8);

/// Marks the kind of a value that goes on in parts.
pub(crate) const CHUNKED: u8 = 0x80;

impl Kind {
    /// A part of a chunked value.
    pub(super) const PART: Self = Self(8);
    /// The first page of a segment of the write-ahead log.
    pub(super) const SEGMENT: Self = Self(10);
    /// A commit in the write-ahead log.
    pub(super) const COMMIT: Self = Self(11);
    /// What the store notes of itself.
    pub(super) const NOTE: Self = Self(12);

    /// A kind of the floor above: below [`CHUNKED`], and none of the store's own.
    pub(crate) const fn new(byte: u8) -> Self {
        assert!(byte < CHUNKED, "the highest bit marks chunked values");
        assert!(byte != 8 && (byte < 10 || byte > 12), "a kind of the store's own");
        Self(byte)
    }

    /// Its byte in the frame.
    pub(crate) const fn byte(self) -> u8 {
        self.0
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

/// Bytes of the frame before the payload.
pub(crate) const FRAME: usize = 6;

/// Puts a value together.
#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// An empty value of this kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_capacity(kind, 0)
    }

    /// The same, with room for a payload of `payload` bytes.
    pub(crate) fn with_capacity(kind: Kind, payload: usize) -> Self {
        let mut bytes = Vec::with_capacity(FRAME + payload);
        bytes.extend_from_slice(&[VERSION, kind.0, 0, 0, 0, 0]);
        Self(bytes)
    }

    /// The bytes that every value of this kind begins with.
    pub(super) fn tag(kind: Kind) -> [u8; 2] {
        [VERSION, kind.0]
    }

    /// A piece of a value, without a frame, of about `capacity` bytes.
    pub(crate) fn piece(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The bytes of a piece.
    pub(crate) fn into_piece(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Length and bytes. Everything stored is far below 4 GiB; a longer one would not read back.
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX)).raw(value)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// The value, with its checksum.
    pub(crate) fn seal(self) -> Vec<u8> {
        self.seal_with(&[])
    }

    /// The value, with a checksum that also covers `salt`, which is not in it. Only who knows the
    /// salt can make such a value, or take one for whole.
    pub(super) fn seal_with(mut self, salt: &[u8]) -> Vec<u8> {
        let crc = checksum(salt, &self.0).to_be_bytes();
        if let Some(field) = self.0.get_mut(2..FRAME) {
            field.copy_from_slice(&crc);
        }
        self.0
    }
}

/// CRC32 of salt, version, kind and payload.
fn checksum(salt: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(value.get(..2).unwrap_or_default());
    hasher.update(value.get(FRAME..).unwrap_or_default());
    hasher.finalize()
}

/// Bytes between the frame of a stub and the beginning of its value.
pub(crate) const STUB: usize = 8;

/// What stands in the place of a chunked value: length and checksum of the whole, and its beginning.
#[derive(Debug)]
pub(crate) struct Stub<'a> {
    kind: u8,
    /// Length of the whole value's payload.
    pub(crate) len: usize,
    /// The whole value's checksum.
    pub(crate) crc: [u8; 4],
    first: &'a [u8],
}

impl<'a> Stub<'a> {
    /// The stub that a value is, its checksum unseen; `None` for a value that is not chunked.
    pub(crate) fn of(value: &'a [u8]) -> Option<Self> {
        let kind = value.get(1).filter(|kind| **kind & CHUNKED != 0)?;
        let (len, rest) = value.get(FRAME..)?.split_first_chunk()?;
        let (crc, first) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        Some(Self { kind: kind & !CHUNKED, len, crc: *crc, first })
    }

    /// The stub of `value`, with the first bytes of its payload.
    pub(super) fn encode(value: &[u8], first: &[u8]) -> Vec<u8> {
        let kind = value.get(1).copied().unwrap_or_default() | CHUNKED;
        let mut stub = Encoder(vec![VERSION, kind, 0, 0, 0, 0]);
        let len = value.len().saturating_sub(FRAME);
        stub.u32(u32::try_from(len).unwrap_or(u32::MAX));
        stub.raw(value.get(2..FRAME).unwrap_or_default()).raw(first);
        stub.seal()
    }

    /// The number of parts that follow it. Each is as long as its beginning, but for the last.
    pub(crate) fn parts(&self) -> usize {
        let rest = self.len.saturating_sub(self.first.len());
        if self.first.is_empty() { 0 } else { rest.div_ceil(self.first.len()) }
    }

    /// Frame and first bytes of the whole value.
    pub(crate) fn beginning(&self) -> Vec<u8> {
        let mut whole = Vec::from([VERSION, self.kind]);
        whole.extend_from_slice(&self.crc);
        whole.extend_from_slice(self.first);
        whole
    }
}

/// A part of the chunked value with this frame.
pub(super) fn encode_part(value: &[u8], index: u32, chunk: &[u8]) -> Vec<u8> {
    let mut part = Encoder::new(Kind::PART);
    part.raw(value.get(2..FRAME).unwrap_or_default()).u32(index).bytes(chunk);
    part.seal()
}

/// The bytes of a part; it must be this one, of the value with this checksum.
pub(super) fn decode_part(part: &[u8], crc: [u8; 4], index: u32) -> Result<&[u8], Malformed> {
    let mut part = Decoder::open(Kind::PART, part)?;
    if part.array::<4>()? != crc || part.u32()? != index {
        return Err(Malformed("a part of another value"));
    }
    let chunk = part.bytes()?;
    part.end()?;
    Ok(chunk)
}

/// Takes a value apart.
#[derive(Debug)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// A whole value of this kind; its frame is checked.
    pub(crate) fn open(kind: Kind, value: &'a [u8]) -> Result<Self, Malformed> {
        Self::framed(kind.0, value, &[])
    }

    /// The same of a value that was sealed with `salt`.
    pub(super) fn open_with(kind: Kind, value: &'a [u8], salt: &[u8]) -> Result<Self, Malformed> {
        Self::framed(kind.0, value, salt)
    }

    /// A whole value, or the beginning of a chunked one.
    pub(crate) fn peek(kind: Kind, value: &'a [u8]) -> Result<Self, Malformed> {
        if Stub::of(value).is_none() {
            return Self::open(kind, value);
        }
        let mut beginning = Self::framed(kind.0 | CHUNKED, value, &[])?;
        beginning.array::<STUB>()?;
        Ok(beginning)
    }

    /// The payload behind a frame that is not looked at: to find out where a value ends.
    pub(crate) fn unframed(value: &'a [u8]) -> Result<Self, Malformed> {
        value.get(FRAME..).map(Self).ok_or(Malformed("no frame"))
    }

    fn framed(kind: u8, value: &'a [u8], salt: &[u8]) -> Result<Self, Malformed> {
        let (head, payload) = value.split_at_checked(FRAME).ok_or(Malformed("no frame"))?;
        let (tag, crc) = head.split_at_checked(2).ok_or(Malformed("no frame"))?;
        // Before the version: bytes that are not even whole are damage, not another format.
        if crc != checksum(salt, value).to_be_bytes() {
            return Err(Malformed("its checksum is wrong"));
        }
        if tag.first() != Some(&VERSION) {
            return Err(Malformed::VERSION);
        }
        if tag.last() != Some(&kind) {
            return Err(Malformed("another kind of value"));
        }
        Ok(Self(payload))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes that have their length before them.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed("a length"))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The same, as text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A count of things that take at least `each` bytes: not more than can follow.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed("a count"))?;
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(Malformed("it ends too early")),
        }
    }

    /// All must have been read.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::new(1);

    #[test]
    fn bytes_that_are_not_whole_are_damage_and_whole_ones_of_another_version_are_not() {
        let mut value = Encoder::new(KIND);
        value.u64(7);
        let value = value.seal();
        assert_eq!(Decoder::open(KIND, &value).unwrap().u64(), Ok(7));
        let mut random = value.clone();
        random[0] = 0x5a;
        let damaged = Err(Malformed("its checksum is wrong"));
        assert_eq!(Decoder::open(KIND, &random).map(drop), damaged);
        let mut next = Encoder(value);
        next.0[0] = VERSION + 1;
        let next = next.seal();
        assert_eq!(Decoder::open(KIND, &next).map(drop), Err(Malformed::VERSION));
    }

    #[test]
    fn a_salted_value_is_whole_only_to_who_knows_the_salt() {
        let value = || Encoder::new(KIND).seal_with(b"salt");
        assert!(Decoder::open_with(KIND, &value(), b"salt").is_ok());
        assert!(Decoder::open_with(KIND, &value(), b"pepper").is_err());
        assert!(Decoder::open(KIND, &value()).is_err());
    }
}
