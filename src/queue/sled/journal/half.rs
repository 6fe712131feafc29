//! What stands in a half of the journal, and how much of it counts.
//!
//! The first page says which half it is; commits follow each other, each synced before the next is
//! written. So the first bytes that are no commit are the end, and a commit behind them is damage.

use memchr::memmem;

use super::super::{
    wire::{FRAME, Get, Kind, Malformed, Put},
    writer::{Entries, Entry},
};

/// Bytes of a half. No value goes over its end.
pub(super) const HALF: usize = 8 * 1024 * 1024;
/// Bytes of its first page.
pub(super) const START: usize = 4096;
/// What is used of it: frame, generation, store.
const USED: usize = FRAME + 8 + 16;
/// Bytes of a commit before its entries: length, generation, index, count.
const HEAD: usize = 4 + 8 + 4 + 4;
/// Bytes of an entry beside its key and value: their lengths, and whether it has a value.
const EACH: usize = 12;

/// A half that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Half {
    pub(super) generation: u64,
    pub(super) store: [u8; 16],
    pub(super) commits: Vec<Entries>,
    /// A commit was found behind something that is none.
    pub(super) damaged: bool,
}

/// The first page of a half.
pub(super) fn first_page(generation: u64, store: [u8; 16]) -> Vec<u8> {
    let mut put = Put::new(Kind::Half);
    put.u64(generation).raw(&store);
    let mut page = put.seal();
    page.resize(START, 0);
    page
}

/// A commit, as it is written.
pub(super) fn commit(generation: u64, index: u32, entries: &Entries) -> Vec<u8> {
    let payload = HEAD + entries.iter().map(size).sum::<usize>();
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let mut put = Put::with_room(Kind::Commit, payload);
    put.u32(number(payload)).u64(generation).u32(index).u32(number(entries.len()));
    for (key, value) in entries {
        put.bytes(key).u32(u32::from(value.is_some()));
        put.bytes(value.as_deref().unwrap_or_default());
    }
    put.seal()
}

fn size((key, value): &Entry) -> usize {
    EACH + key.len() + value.as_ref().map_or(0, Vec::len)
}

impl Half {
    /// None if it was never used.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let (page, mut rest) = bytes.split_at_checked(START).ok_or(Malformed("it is too short"))?;
        if page == [0; START] {
            return Ok(None);
        }
        let mut get = Get::open(Kind::Half, page.get(..USED).unwrap_or_default())?;
        let (generation, store) = (get.u64()?, get.array()?);
        let mut half = Self { generation, store, commits: Vec::new(), damaged: false };
        while let Some((index, entries, after)) = half.commit(rest)
            && index == half.commits.len()
        {
            half.commits.push(entries);
            rest = after;
        }
        while let Some(at) = memmem::find(rest, &Put::tag(Kind::Commit)) {
            rest = rest.get(at..).unwrap_or_default();
            if let Some((index, entries, after)) = half.commit(rest)
                && index >= half.commits.len()
            {
                half.damaged = true;
                half.commits.push(entries);
                rest = after;
            } else {
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        Ok(Some(half))
    }

    /// The commit of this half that begins here: its index, what it says, and what is behind it.
    fn commit<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Entries, &'a [u8])> {
        let mut get = Get::unframed(bytes).ok()?;
        let len = usize::try_from(get.u32().ok()?).ok()?;
        if get.u64() != Ok(self.generation) {
            // Before the checksum, which takes time: these are many in a half that is used again.
            return None;
        }
        let (value, rest) = bytes.split_at_checked(FRAME + len)?;
        let (index, entries) = entries(value).ok()?;
        Some((index, entries, rest))
    }
}

fn entries(value: &[u8]) -> Result<(usize, Entries), Malformed> {
    let mut get = Get::open(Kind::Commit, value)?;
    get.array::<12>()?;
    let index = get.u32()?;
    let count = get.count(EACH)?;
    let mut entries = Entries::with_capacity(count);
    for _ in 0..count {
        let key = get.bytes()?.to_vec();
        let is_set = get.u32()? == 1;
        let value = get.bytes()?;
        entries.push((key, is_set.then(|| value.to_vec())));
    }
    get.end()?;
    let index = usize::try_from(index).map_err(|_| Malformed("an index"))?;
    Ok((index, entries))
}

#[cfg(test)]
mod tests;
