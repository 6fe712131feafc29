//! The values of the queue as bytes: records of events, runs of ids, and the values beside the log.

pub(super) mod record;
pub(super) mod run;
pub(super) mod values;

use crate::store::codec::Kind;

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
/// Events that were lost, so that the log has no hole.
pub(super) const GAP: Kind = Kind::new(9);
