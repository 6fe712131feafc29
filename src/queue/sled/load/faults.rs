//! What a walk finds wrong, and who hears of it.

use std::collections::BTreeSet;

use crate::{
    queue::sled::keys,
    store::{Error, codec::Malformed},
};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This entry is not as it was written, so it is of no use.
    Entry(Vec<u8>, Malformed),
    /// Anything else, in words.
    Words(String),
}

impl Fault {
    /// Why the store cannot be opened so.
    fn error(self) -> Error {
        match self {
            Self::Entry(key, error) => Error::malformed(&keys::name(&key), error),
            Self::Words(words) => Error::Damaged(words),
        }
    }
}

/// Who hears of faults, and says whether the walk goes on.
pub(crate) trait Faults {
    /// A fault was found.
    fn fault(&mut self, fault: Fault) -> Result<(), Error>;
}

/// The first fault ends the walk.
#[derive(Debug)]
pub(super) struct Strict;

impl Faults for Strict {
    fn fault(&mut self, fault: Fault) -> Result<(), Error> {
        Err(fault.error())
    }
}

/// All faults, for a report. Only another format ends the walk.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) words: Vec<String>,
    /// Entries that are of no use.
    pub(crate) bad: BTreeSet<Vec<u8>>,
}

impl Faults for Collected {
    fn fault(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::Entry(_, Malformed::VERSION) => Err(fault.error()),
            Fault::Entry(key, error) => {
                self.words.push(format!("{}: {error}", keys::name(&key)));
                self.bad.insert(key);
                Ok(())
            }
            Fault::Words(words) => {
                self.words.push(words);
                Ok(())
            }
        }
    }
}
