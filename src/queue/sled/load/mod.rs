//! What stands in the store, read at start and by a verification: one walk over it for both.
//!
//! A start reads the checksum of every value that it needs, and stops at the first fault. Of a large
//! log it reads only the end, behind the last run of ids; damage before that is found when it is
//! read. A verification reads everything, and collects the faults.

mod contents;
mod entries;
mod faults;
mod log;
mod walk;

pub(super) use self::{
    contents::Contents,
    faults::Collected,
    walk::{Depth, Survey, numbers},
};
use self::{
    entries::{cursors, dead_letters, parts, retries, strangers, undecodable},
    faults::{Faults, Strict},
    log::{log, runs},
    walk::Walk,
};
use super::{
    codec::{Value, values::DedupKey},
    dedup::Dedup,
    options::Options,
};
use crate::store::{Error, View};

/// A store as it was opened.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) dedup: Dedup,
    /// The value to write, if the store is a new one.
    pub(super) new_key: Option<Vec<u8>>,
}

/// Reads it; of a log with more packed bytes than `read_whole` only the end.
pub(super) fn load(view: &View, options: &Options, read_whole: u64) -> Result<Loaded, Error> {
    let depth = Depth::Start { read_whole, dedup_max: options.dedup_max };
    let Survey { key, contents, mut dedup, .. } = walk(view, depth, &mut Strict)?;
    let mut new_key = None;
    if key.is_none() {
        let key = random_key()?;
        new_key = Some(key.encode());
        dedup.set_key(&key);
    }
    Ok(Loaded { contents, dedup, new_key })
}

/// Reads the store, and judges each entry and all together.
pub(super) fn walk(view: &View, depth: Depth, faults: &mut dyn Faults) -> Result<Survey, Error> {
    let mut walk = Walk { view, depth, faults };
    let mut survey = walk.notes()?;
    cursors(&mut walk, &mut survey)?;
    runs(&mut walk, &mut survey)?;
    log(&mut walk, &mut survey)?;
    retries(&mut walk, &mut survey)?;
    dead_letters(&mut walk, &mut survey)?;
    undecodable(&mut walk, &mut survey)?;
    if walk.is_deep() {
        parts(&mut walk)?;
        strangers(&mut walk)?;
    }
    Ok(survey)
}

/// A new dedup key.
pub(super) fn random_key() -> Result<DedupKey, Error> {
    let mut key = DedupKey::default();
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::other("no random numbers"))?;
    Ok(key)
}
