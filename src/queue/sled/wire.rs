//! Bytes in and out of a stored value, and the frame around each: format version, kind, CRC32.
//!
//! Owns the primitives; what a value holds is [`super::record`]'s and [`super::entry`]'s. Reading
//! is total: any bytes give a value or [`Malformed`], and never more memory than they justify.

/// Format of every value. A store with another one is refused.
pub(super) const VERSION: u8 = 1;

/// What a value is; part of its frame, so that one cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Group,
    Ids,
    Cursor,
    Retry,
    Dead,
    Raw,
    Meta,
    Part,
    Gap,
    Half,
    Commit,
}

/// Marks the kind of a value that goes on in parts.
pub(super) const LONG: u8 = 0x80;

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Group => 1,
            Self::Ids => 2,
            Self::Cursor => 3,
            Self::Retry => 4,
            Self::Dead => 5,
            Self::Raw => 6,
            Self::Meta => 7,
            Self::Part => 8,
            Self::Gap => 9,
            Self::Half => 10,
            Self::Commit => 11,
        }
    }
}

/// Bytes that are no value of the kind looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

impl Malformed {
    /// Written in a format that is not ours.
    pub(super) const VERSION: Self = Self("another format version");
}

/// Bytes of the frame before the payload.
pub(super) const FRAME: usize = 6;

/// Puts a value together.
#[derive(Debug)]
pub(super) struct Put(Vec<u8>);

impl Put {
    pub(super) fn new(kind: Kind) -> Self {
        Self(vec![VERSION, kind.byte(), 0, 0, 0, 0])
    }

    /// The same, with room for a payload of so many bytes.
    pub(super) fn with_room(kind: Kind, payload: usize) -> Self {
        let mut put = Vec::with_capacity(FRAME + payload);
        put.extend_from_slice(&[VERSION, kind.byte(), 0, 0, 0, 0]);
        Self(put)
    }

    /// The bytes that every value of this kind begins with.
    pub(super) fn tag(kind: Kind) -> [u8; 2] {
        [VERSION, kind.byte()]
    }

    /// A part of a long value.
    pub(super) fn part(value: &[u8], index: u32, chunk: &[u8]) -> Vec<u8> {
        let mut put = Self::new(Kind::Part);
        put.raw(value.get(2..FRAME).unwrap_or_default()).u32(index).bytes(chunk);
        put.seal()
    }

    /// What stands in the place of a long value: its length and checksum, and its beginning.
    pub(super) fn stub(value: &[u8], first: &[u8]) -> Vec<u8> {
        let kind = value.get(1).copied().unwrap_or_default() | LONG;
        let mut put = Self(vec![VERSION, kind, 0, 0, 0, 0]);
        let len = value.len().saturating_sub(FRAME);
        put.u32(u32::try_from(len).unwrap_or(u32::MAX));
        put.raw(value.get(2..FRAME).unwrap_or_default()).raw(first);
        put.seal()
    }

    /// Without a frame: a piece of a value, of about so many bytes.
    pub(super) fn bare(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }

    /// The bytes of a piece.
    pub(super) fn into_bare(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Length and bytes. Everything stored is far below 4 GiB; a longer one would not read back.
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX)).raw(value)
    }

    pub(super) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// The value, with its checksum.
    pub(super) fn seal(mut self) -> Vec<u8> {
        let crc = checksum(&self.0).to_be_bytes();
        if let Some(place) = self.0.get_mut(2..FRAME) {
            place.copy_from_slice(&crc);
        }
        self.0
    }
}

/// CRC32 of version, kind and payload.
fn checksum(value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(value.get(..2).unwrap_or_default());
    hasher.update(value.get(FRAME..).unwrap_or_default());
    hasher.finalize()
}

/// Bytes between the frame of a stub and the beginning of its value.
pub(super) const STUB: usize = 8;

/// What a stub says, its checksum unseen.
#[derive(Debug)]
pub(super) struct Stub<'a> {
    kind: u8,
    /// Length of the whole value's payload.
    pub(super) len: usize,
    /// The whole value's checksum.
    pub(super) crc: [u8; 4],
    first: &'a [u8],
}

impl<'a> Stub<'a> {
    /// So many parts follow it. Each is as long as what it has of the value, but for the last.
    pub(super) fn parts(&self) -> usize {
        let rest = self.len.saturating_sub(self.first.len());
        if self.first.is_empty() { 0 } else { rest.div_ceil(self.first.len()) }
    }

    /// None if the value is no stub.
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let kind = value.get(1).filter(|kind| **kind & LONG != 0)?;
        let (len, rest) = value.get(FRAME..)?.split_first_chunk()?;
        let (crc, first) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        Some(Self { kind: kind & !LONG, len, crc: *crc, first })
    }

    /// Frame and first bytes of the whole value.
    pub(super) fn begin(&self) -> Vec<u8> {
        let mut whole = Vec::from([VERSION, self.kind]);
        whole.extend_from_slice(&self.crc);
        whole.extend_from_slice(self.first);
        whole
    }
}

/// Takes a value apart.
#[derive(Debug)]
pub(super) struct Get<'a>(&'a [u8]);

impl<'a> Get<'a> {
    /// Checks the frame.
    pub(super) fn open(kind: Kind, value: &'a [u8]) -> Result<Self, Malformed> {
        Self::framed(kind.byte(), value)
    }

    /// Without a look at the frame, which must be there: to find out where a value ends.
    pub(super) fn unframed(value: &'a [u8]) -> Result<Self, Malformed> {
        value.get(FRAME..).map(Self).ok_or(Malformed("no frame"))
    }

    /// Bytes not yet read.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The same, or the beginning of a value that goes on in parts.
    pub(super) fn peek(kind: Kind, value: &'a [u8]) -> Result<Self, Malformed> {
        if Stub::of(value).is_none() {
            return Self::open(kind, value);
        }
        let mut get = Self::framed(kind.byte() | LONG, value)?;
        get.array::<STUB>()?;
        Ok(get)
    }

    /// What a part holds; it must be this one, of the value with this checksum.
    pub(super) fn part(value: &'a [u8], crc: [u8; 4], index: u32) -> Result<&'a [u8], Malformed> {
        let mut get = Self::open(Kind::Part, value)?;
        if get.array::<4>()? != crc || get.u32()? != index {
            return Err(Malformed("a part of another value"));
        }
        let chunk = get.bytes()?;
        get.end()?;
        Ok(chunk)
    }

    fn framed(kind: u8, value: &'a [u8]) -> Result<Self, Malformed> {
        let (head, payload) = value.split_at_checked(FRAME).ok_or(Malformed("no frame"))?;
        let (tag, crc) = head.split_at_checked(2).ok_or(Malformed("no frame"))?;
        if tag.first() != Some(&VERSION) {
            return Err(Malformed::VERSION);
        }
        if tag.last() != Some(&kind) {
            return Err(Malformed("another kind of value"));
        }
        if crc != checksum(value).to_be_bytes() {
            return Err(Malformed("its checksum is wrong"));
        }
        Ok(Self(payload))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed("a length"))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A count of things that take at least `each` bytes: not more than can follow.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed("a count"))?;
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(Malformed("it ends too early")),
        }
    }

    /// Whether all has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All must have been read.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}
