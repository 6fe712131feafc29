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
            DEAD, GROUP, IDS, KEY, RAW, RETRY, Value,
            record::Head,
            run::Run,
            values::{DedupKey, Tried, decided_at},
        },
        write::high_water::HighWater,
    },
    store::{
        StoreId,
        chunked::{MAX_ENTRY, Part},
        codec::{self, FRAME, Kind, Malformed, Stub, VERSION},
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
            let value = codec::split(rest).map_or(&[][..], |(value, _)| value);
            let (file, len) = (self.files.len(), value.len());
            let spot = Spot { file, at: base + u64::try_from(at).unwrap_or(0), len };
            // A longer one is none, and its checksum would take time.
            let taken = len <= MAX_ENTRY && self.take(value, spot, mark).is_ok();
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
        let is = |kind| Kind::of(value) == Some(kind);
        let low = mark.map_or(0, |mark| mark.low);
        if is(GROUP) {
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
        } else if is(Kind::PART) {
            let (of, index, _): Part<'_> = codec::decode(Kind::PART, value)?;
            self.parts.insert((of, index), spot);
        } else if is(RAW) {
            self.undecodable.insert((decided_at(RAW, value)?, codec::crc(value)), spot);
        } else if is(RETRY) && Stub::of(value).is_none() {
            let tried = Tried::decode(RETRY, value)?;
            let newer = |(old, _): &(Timestamp, Spot)| *old < tried.at;
            if self.retries.get(&tried.stored.seq.0).is_none_or(newer) {
                self.retries.insert(tried.stored.seq.0, (tried.at, spot));
            }
        } else if is(DEAD) {
            codec::open_beginning(DEAD, value)?;
            self.dead += 1;
        } else if is(KEY) {
            self.key = Some(DedupKey::decode(value)?);
        } else if is(Kind::NOTE) {
            let id = codec::decode(Kind::NOTE, value)?;
            if mark.is_none_or(|mark| mark.store == id) {
                self.store = Some(id);
            }
        } else {
            return Err(Malformed("another kind of value"));
        }
        Ok(())
    }
}
