//! The values of the queue as bytes: records of events, runs of ids, and the values beside the log.

pub(super) mod record;
pub(super) mod run;
pub(super) mod values;

use serde::{Serialize, de::DeserializeOwned};

use crate::store::codec::{self, Kind, Malformed};

/// A group of events.
pub(super) const GROUP: Kind = Kind::new(1);
/// A run of ids.
pub(super) const IDS: Kind = Kind::new(2);
/// A handler's cursor.
pub(super) const CURSOR: Kind = Kind::new(3);
/// A waiting retry.
pub(super) const RETRY: Kind = Kind::new(4);
/// A dead letter.
pub(super) const DEAD: Kind = Kind::new(5);
/// An undecodable push.
pub(super) const RAW: Kind = Kind::new(6);
/// What the queue notes of itself, and the high-water file.
pub(super) const META: Kind = Kind::new(7);
/// The dedup key.
pub(super) const KEY: Kind = Kind::new(14);

/// A type that stands in the store as it is, always under the same kind.
pub(super) trait Value: Serialize + DeserializeOwned {
    const KIND: Kind;

    fn encode(&self) -> Vec<u8> {
        codec::encode(Self::KIND, self)
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        codec::decode(Self::KIND, value)
    }
}
