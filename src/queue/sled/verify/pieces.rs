//! Searches the files of a store for values that are whole, for what sled does not find there.
//!
//! Every value tells its kind, its length and its checksum, so it can be found without sled. What
//! cannot be found so is its key; and what was deleted is found as well, as long
//! as sled has not written over it. So events below the lowest cursor of any handler (the high-water
//! file has it) are left alone, and everything else is rather delivered again than lost.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use memchr::memchr;

use crate::{
    clock::Timestamp,
    queue::{
        StoredEvent,
        sled::codec::{
            DEAD, GROUP, IDS, KEY, RAW, RETRY, Value,
            record::{Head, decode_group},
            run::Run,
            values::{DedupKey, Tried, Undecodable, decided_at},
        },
    },
    store::{
        Error,
        chunked::{self, MAX_ENTRY, Part},
        codec::{self, Kind, Malformed, Stub, VERSION},
    },
};

/// Bytes that are looked through at once: no value goes over the end of a segment of sled's file or
/// of the write-ahead log, and this is not the middle of one.
const STRETCH: usize = 8 * 1024 * 1024;

/// Where a value stands: in which file, and where there.
#[derive(Debug, Clone, Copy)]
struct Spot {
    file: usize,
    at: u64,
    len: usize,
}

/// A value's number, or what else tells it from others of its kind.
type Name = (u64, u32);

/// Of two values with the same name the later one counts, then the one of more events.
type Rank = (Timestamp, u32);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    files: Vec<File>,
    /// By kind and name.
    found: BTreeMap<(Kind, Name), (Rank, Spot)>,
}

impl Pieces {
    /// Searches these files, as far as they are there. Events below `low` are of no use.
    pub(super) fn search(paths: &[PathBuf], low: u64) -> io::Result<Self> {
        let mut pieces = Self::default();
        for path in paths {
            match File::open(path) {
                Ok(file) => pieces.scan(file, low)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pieces)
    }

    fn scan(&mut self, mut file: File, low: u64) -> io::Result<()> {
        let (mut stretch, mut base) = (Vec::with_capacity(STRETCH), 0);
        while file.by_ref().take(number(STRETCH)).read_to_end(&mut stretch)? > 0 {
            let mut at = 0;
            while let Some(rest) = stretch.get(at..)
                && let Some(skip) = memchr(VERSION, rest)
            {
                at += skip;
                let rest = rest.get(skip..).unwrap_or_default();
                at += self.value(rest, base + number(at), low).unwrap_or(1);
            }
            base += number(stretch.len());
            stretch.clear();
        }
        self.files.push(file);
        Ok(())
    }

    /// The length of the value that begins here, if one does; it is kept.
    fn value(&mut self, bytes: &[u8], at: u64, low: u64) -> Option<usize> {
        let (value, _) = codec::split(bytes)?;
        let len = value.len();
        if len > MAX_ENTRY {
            // It is none, and its checksum would take time.
            return None;
        }
        let kind = Kind::of(value)?;
        let (name, rank) = identify(kind, value).ok()?;
        let is_old = kind == GROUP && name.0.saturating_add(rank.1.into()) <= low;
        if !is_old && self.found.get(&(kind, name)).is_none_or(|(before, _)| *before < rank) {
            let file = self.files.len();
            self.found.insert((kind, name), (rank, Spot { file, at, len }));
        }
        Some(len)
    }

    /// The values of a kind with these numbers, their parts included, as far as these are there.
    /// Whether such a value is whole is seen when it is decoded.
    pub(super) fn all(
        &self,
        kind: Kind,
        numbers: Range<u64>,
    ) -> impl Iterator<Item = Result<Vec<u8>, Error>> {
        let (from, end) = ((numbers.start, 0), (numbers.end, 0));
        let found = self.found.range((kind, from)..(kind, end));
        found.filter_map(|(_, (_, spot))| self.whole(*spot).transpose())
    }

    fn whole(&self, spot: Spot) -> Result<Option<Vec<u8>>, Error> {
        let value = self.read(spot)?;
        let Some(stub) = Stub::of(&value) else { return Ok(Some(value)) };
        let crc = codec::crc(stub.beginning());
        let part = |index| {
            let part = self.found.get(&(Kind::PART, part_of(crc, index)));
            part.map(|(_, spot)| self.read(*spot)).transpose()
        };
        Ok(chunked::join(&stub, part)?.ok())
    }

    fn read(&self, spot: Spot) -> io::Result<Vec<u8>> {
        let mut value = vec![0; spot.len];
        if let Some(file) = self.files.get(spot.file) {
            file.read_exact_at(&mut value, spot.at)?;
        }
        Ok(value)
    }

    /// The first group of events that is whole and lies between these numbers.
    pub(super) fn group(
        &self,
        from: u64,
        end: u64,
    ) -> Result<Option<(Head, Vec<StoredEvent>)>, Error> {
        for value in self.all(GROUP, from..end) {
            if let Ok((head, events)) = decode_group(&value?)
                && head.end() <= end
                && !events.is_empty()
            {
                return Ok(Some((head, events)));
            }
        }
        Ok(None)
    }

    /// The first number of a group, and the one after the last.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        let groups = self.found.range((GROUP, (0, 0))..(GROUP, (u64::MAX, 0)));
        groups.fold(None, |bounds, ((_, (first, _)), ((_, count), _))| {
            let end = first.saturating_add((*count).into());
            let (begin, last) = bounds.unwrap_or((*first, end));
            Some((begin, last.max(end)))
        })
    }

    /// The number of dead letters, old ones among them.
    pub(super) fn dead(&self) -> usize {
        self.found.keys().filter(|(kind, _)| *kind == DEAD).count()
    }
}

/// What a value is; errs on whatever is no whole one, or not even its beginning.
fn identify(kind: Kind, value: &[u8]) -> Result<(Name, Rank), Malformed> {
    let is_stub = Stub::of(value).is_some();
    let of = |head: Head| ((head.first, 0), (head.received, head.count));
    Ok(match kind {
        GROUP if is_stub => of(Head::decode(value)?),
        GROUP => of(decode_group(value)?.0),
        IDS => of(Run::decode(value)?.head),
        Kind::PART => {
            let (crc, index, _): Part<'_> = codec::decode(kind, value)?;
            (part_of(crc, index), Rank::default())
        }
        RETRY => {
            // One that is chunked tells its number only with its parts.
            let tried = Tried::decode(kind, value)?;
            ((tried.stored.seq.0, 0), (tried.at, 0))
        }
        KEY => DedupKey::decode(value).map(|_| <(Name, Rank)>::default())?,
        DEAD | RAW => {
            let at = match kind {
                kind if is_stub => decided_at(kind, value)?,
                RAW => Undecodable::decode(value)?.at,
                kind => Tried::decode(kind, value)?.at,
            };
            ((at.as_millis(), u32::from_be_bytes(codec::crc(value))), Rank::default())
        }
        _ => return Err(Malformed("another kind of value")),
    })
}

/// The name of a part of the value with this checksum.
fn part_of(crc: [u8; 4], index: u32) -> Name {
    (u32::from_be_bytes(crc).into(), index)
}

/// A length or a count, as files and reports have it.
pub(super) fn number(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
