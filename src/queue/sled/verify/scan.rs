//! Searches the files of a store that sled cannot open for values that are whole.
//!
//! Every value tells its kind, its length and its checksum, so it can be found without sled. What
//! cannot be found so is its key; and what was deleted is found as well, as long as sled has not
//! written over it. So events below the lowest cursor of any handler (the high-water file has it)
//! are left alone, and everything else is rather delivered again than lost.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use crate::{
    clock::Timestamp,
    queue::sled::{
        codec::{
            DEAD, GAP, GROUP, IDS, KEY, RAW, RETRY,
            record::Head,
            run::Run,
            values::{DedupKey, Tried, decode_key},
        },
        write::high_water::HighWater,
    },
    store::{
        StoreId,
        chunked::CHUNK,
        codec::{CHUNKED, Decoder, FRAME, Kind, Malformed, STUB, Stub, VERSION},
        trees::{self, NOTE, PART},
    },
};

/// Bytes that are looked through at once: no value goes over the end of a segment of sled's file or
/// of the write-ahead log, and this is not the middle of one.
const STRETCH: usize = 8 * 1024 * 1024;

/// Where a value stands: in which file, and where there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    file: usize,
    at: u64,
    len: usize,
}

/// What was found, by what it is.
#[derive(Debug)]
pub(super) struct Pieces {
    files: Vec<File>,
    pub(super) key: Option<DedupKey>,
    pub(super) store: Option<StoreId>,
    /// By first number: when it was stored, and where.
    pub(super) groups: BTreeMap<u64, (Head, Spot)>,
    pub(super) ids: BTreeMap<u64, (Head, Spot)>,
    pub(super) parts: HashMap<([u8; 4], u32), Spot>,
    /// By when it came, and its checksum.
    pub(super) undecodable: BTreeMap<(Timestamp, [u8; 4]), Spot>,
    /// Retries by the number of their event, the newest of each: when it was decided, and where.
    pub(super) retries: BTreeMap<u64, (Timestamp, Spot)>,
    /// Numbers of events that some dead letter holds; whose, is not known.
    pub(super) dead: usize,
}

/// Searches these files, as far as they are there.
pub(super) fn scan(paths: &[PathBuf], mark: Option<&HighWater>) -> io::Result<Pieces> {
    let mut pieces = Pieces {
        files: Vec::new(),
        key: None,
        store: None,
        groups: BTreeMap::new(),
        ids: BTreeMap::new(),
        parts: HashMap::new(),
        undecodable: BTreeMap::new(),
        retries: BTreeMap::new(),
        dead: 0,
    };
    for path in paths {
        match File::open(path) {
            Ok(file) => pieces.scan(file, mark)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pieces)
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + u64::try_from(done).unwrap_or(0))? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

impl Pieces {
    /// The bytes of a value.
    pub(super) fn read(&self, spot: Spot) -> io::Result<Vec<u8>> {
        let mut value = vec![0; spot.len];
        if let Some(file) = self.files.get(spot.file) {
            file.read_exact_at(&mut value, spot.at)?;
        }
        Ok(value)
    }

    fn scan(&mut self, file: File, mark: Option<&HighWater>) -> io::Result<()> {
        let (mut stretch, mut at) = (vec![0; STRETCH], 0);
        loop {
            let len = read_up_to(&file, &mut stretch, at)?;
            if len == 0 {
                self.files.push(file);
                return Ok(());
            }
            self.search(stretch.get(..len).unwrap_or_default(), at, mark);
            at += u64::try_from(len).unwrap_or(u64::MAX);
        }
    }

    fn search(&mut self, stretch: &[u8], base: u64, mark: Option<&HighWater>) {
        let mut at = 0;
        while let Some(rest) = stretch.get(at..).filter(|rest| rest.len() > FRAME) {
            let Some(skip) = rest.iter().position(|byte| *byte == VERSION) else { return };
            at += skip;
            let rest = rest.get(skip..).unwrap_or_default();
            let len = length(rest).unwrap_or(0);
            let file = self.files.len();
            let spot = Spot { file, at: base + u64::try_from(at).unwrap_or(0), len };
            let value = rest.get(..len).unwrap_or_default();
            let taken = len > 0 && self.take(value, spot, mark).is_ok();
            at += if taken { len } else { 1 };
        }
    }

    /// Errs on whatever is no whole value.
    fn take(
        &mut self,
        value: &[u8],
        spot: Spot,
        mark: Option<&HighWater>,
    ) -> Result<(), Malformed> {
        let kind = value.get(1).copied().unwrap_or_default();
        let is = |of: Kind| kind & !CHUNKED == of.byte();
        let low = mark.map_or(0, |mark| mark.low);
        if is(GROUP) || is(GAP) {
            let head = Head::decode(value)?;
            let better =
                |(old, _): &(Head, Spot)| (old.received, old.count) < (head.received, head.count);
            if head.end() > low && self.groups.get(&head.first).is_none_or(better) {
                self.groups.insert(head.first, (Head { ids: Vec::new(), ..head }, spot));
            }
        } else if is(IDS) {
            let head = Run::decode(value)?.head;
            if self.ids.get(&head.first).is_none_or(|(old, _)| old.count <= head.count) {
                self.ids.insert(head.first, (Head { ids: Vec::new(), ..head }, spot));
            }
        } else if is(PART) {
            let mut get = Decoder::open(PART, value)?;
            self.parts.insert((get.array()?, get.u32()?), spot);
        } else if is(RAW) {
            let at = Timestamp::from_millis(Decoder::peek(RAW, value)?.u64()?);
            let crc = value.get(2..FRAME).and_then(|crc| crc.try_into().ok()).unwrap_or_default();
            self.undecodable.insert((at, crc), spot);
        } else if is(RETRY) && kind & CHUNKED == 0 {
            let tried = Tried::decode(RETRY, value)?;
            let newer = |(old, _): &(Timestamp, Spot)| *old < tried.at;
            if self.retries.get(&tried.stored.seq.0).is_none_or(newer) {
                self.retries.insert(tried.stored.seq.0, (tried.at, spot));
            }
        } else if is(DEAD) {
            Decoder::peek(DEAD, value)?;
            self.dead += 1;
        } else if is(KEY) {
            self.key = Some(decode_key(value)?);
        } else if is(NOTE) {
            let id = trees::decode_store_id(value)?;
            if mark.is_none_or(|mark| mark.store == id) {
                self.store = Some(id);
            }
        } else {
            return Err(Malformed("another kind of value"));
        }
        Ok(())
    }
}

/// The length of the value that begins here, if one does.
fn length(bytes: &[u8]) -> Option<usize> {
    let kind = *bytes.get(1)?;
    if kind & CHUNKED != 0 {
        let end = FRAME + STUB + CHUNK;
        return bytes.get(..end).is_some_and(is_stub).then_some(end);
    }
    let mut get = Decoder::unframed(bytes).ok()?;
    let before = get.left();
    skip(kind, &mut get).ok()?;
    Some(FRAME + before - get.left())
}

fn is_stub(value: &[u8]) -> bool {
    let whole = |kind| Decoder::peek(kind, value).is_ok();
    Stub::of(value).is_some() && [GROUP, RAW, RETRY, DEAD].into_iter().any(whole)
}

/// Reads over a value's payload.
fn skip(kind: u8, get: &mut Decoder<'_>) -> Result<(), Malformed> {
    let is = |of: Kind| kind == of.byte();
    if is(GROUP) {
        let head = Head::get(get)?;
        (0..head.count).try_for_each(|_| event(get))
    } else if is(GAP) {
        Head::get(get).map(drop)
    } else if is(IDS) {
        Head::get(get)?;
        get.u64().map(drop)
    } else if is(PART) {
        get.u64()?;
        texts::<1>(get)
    } else if is(RAW) {
        get.u64()?;
        failure(get)?;
        texts::<3>(get)
    } else if is(RETRY) || is(DEAD) {
        get.array::<20>()?;
        failure(get)?;
        get.array::<16>()?;
        event(get)
    } else if is(KEY) {
        get.array::<32>().map(drop)
    } else if is(NOTE) {
        get.array::<16>().map(drop)
    } else {
        Err(Malformed("another kind of value"))
    }
}

fn texts<const N: usize>(get: &mut Decoder<'_>) -> Result<(), Malformed> {
    (0..N).try_for_each(|_| get.bytes().map(drop))
}

fn failure(get: &mut Decoder<'_>) -> Result<(), Malformed> {
    get.bytes()?;
    get.u32()?;
    get.bytes().map(drop)
}

fn event(get: &mut Decoder<'_>) -> Result<(), Malformed> {
    get.bytes()?;
    names(get)?;
    names(get)?;
    get.bytes().map(drop)
}

fn names(get: &mut Decoder<'_>) -> Result<(), Malformed> {
    for _ in 0..get.count(4)? {
        get.bytes()?;
    }
    Ok(())
}
