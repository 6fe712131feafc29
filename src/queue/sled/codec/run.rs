//! A run: the ids of groups that follow each other, in one value, for as long as the dedup window
//! has them or the log their events.

use serde::{Deserialize, Serialize};

use super::{IDS, Value, record::Head};
use crate::{
    clock::Timestamp,
    store::codec::{Kind, Malformed},
};

/// Ids of groups, and how much of the log they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Numbers and ids of all the groups; the time is the last one's.
    pub(crate) head: Head,
    /// Bytes that their records had when they were stored.
    pub(crate) bytes: u64,
}

impl Value for Run {
    const KIND: Kind = IDS;
}

/// A run without its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunHead {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) received: Timestamp,
    pub(crate) bytes: u64,
}

impl Run {
    /// Reads the value under this key, which must be its own.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        let Self { head, bytes } = Self::decode(value)?;
        Ok(Self { head: head.checked(key)?, bytes })
    }

    /// The run without its ids.
    pub(crate) fn head(&self) -> RunHead {
        let Head { first, received, .. } = self.head;
        RunHead { first, end: self.head.end(), received, bytes: self.bytes }
    }
}
