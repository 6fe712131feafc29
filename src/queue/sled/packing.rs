//! Which groups' ids are in records of `d|` already, and when those of the others get there.
//!
//! The log has two parts. Below a number, `until`, the ids of all events are in `d|` (or have left
//! the window); from there on they stand only with their events. So a start reads `d|` and the end
//! of the log, however long that is, and deleting what is below rewrites nothing. The groups of
//! the end are held here, so that packing their ids reads nothing.

use std::collections::VecDeque;

use super::{
    ids::Bounds,
    record::Head,
    wire::{Get, Kind, Malformed, Put},
};

/// Bytes of records that a start reads at most because their ids are not packed, about: large
/// events bring few ids.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// Records of ids that one commit writes only because they are due.
const RUNS: usize = 16;

/// What the store notes of its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Ids of events below are in `d|`, or have left the window. A record of the log begins here,
    /// or the log ends here.
    pub(super) until: u64,
    /// Bytes of the log's records below `until`.
    pub(super) bytes: u64,
    /// Ids of events below have left the window, so that the records of `d|` go from here, at the
    /// latest, to `until` without a hole.
    pub(super) from: u64,
}

impl Note {
    /// The value under `m|log`.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut put = Put::new(Kind::Meta);
        put.u64(self.until).u64(self.bytes).u64(self.from);
        put.seal()
    }

    /// Reads it.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut get = Get::open(Kind::Meta, value)?;
        let note = Self { until: get.u64()?, bytes: get.u64()?, from: get.u64()? };
        get.end()?;
        Ok(note)
    }
}

/// The end of the log, and what is noted of the rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Unpacked {
    pub(super) note: Note,
    /// Groups from `note.until` on, oldest first, and their sizes on disk.
    groups: VecDeque<(Head, u64)>,
    weight: usize,
    bytes: u64,
}

/// A group without ids counts, too, so that what is held here is bounded.
fn weight(head: &Head) -> usize {
    head.ids.len().max(1)
}

impl Unpacked {
    /// A group was stored.
    pub(super) fn push(&mut self, head: Head, bytes: u64) {
        self.weight += weight(&head);
        self.bytes += bytes;
        self.groups.push_back((head, bytes));
    }

    /// The group before all of these, as a start finds them.
    pub(super) fn push_before(&mut self, head: Head, bytes: u64) {
        self.weight += weight(&head);
        self.bytes += bytes;
        self.groups.push_front((head, bytes));
    }

    /// The first group from this number on.
    pub(super) fn first_from(&self, number: u64) -> Option<&Head> {
        let before = self.groups.partition_point(|(head, _)| head.first < number);
        self.groups.get(before).map(|(head, _)| head)
    }

    /// Whether it is time to pack some.
    pub(super) fn is_due(&self, bounds: Bounds) -> bool {
        self.weight >= bounds.due() || self.bytes >= MOST_BYTES
    }

    /// So many groups are below this number: they are to be packed when they are deleted.
    pub(super) fn before(&self, end: u64) -> usize {
        self.groups.partition_point(|(head, _)| head.end() <= end)
    }

    /// So many groups, from the oldest, fill whole records of ids. The rest waits for more.
    pub(super) fn full(&self, bounds: Bounds) -> usize {
        let ends = self.groups.front().zip(self.groups.back());
        if !self.is_due(bounds)
            && ends.is_none_or(|(a, b)| b.0.received.since(a.0.received) <= bounds.span())
        {
            return 0;
        }
        let (mut full, mut runs) = (0, 0);
        let (mut ids, mut bytes, mut since) = (0, 0, None);
        for (index, (head, size)) in self.groups.iter().enumerate() {
            let begun = *since.get_or_insert(head.received);
            let joins = ids + weight(head) <= bounds.most()
                && head.received.since(begun) <= bounds.span()
                && bytes < MOST_BYTES;
            if ids > 0 && !joins {
                (full, runs) = (index, runs + 1);
                (ids, bytes, since) = (0, 0, Some(head.received));
            }
            if runs == RUNS {
                return full;
            }
            ids += weight(head);
            bytes += size;
        }
        if ids >= bounds.most() || bytes >= MOST_BYTES { self.groups.len() } else { full }
    }

    /// The oldest so many groups, less those whose ids have left the window.
    pub(super) fn heads(&self, count: usize, low: u64) -> Vec<Head> {
        let oldest = self.groups.iter().take(count).map(|(head, _)| head);
        oldest.filter(|head| head.first >= low).cloned().collect()
    }

    /// What is to be noted once the oldest so many groups are packed, and records of so many bytes
    /// up to `deleted_to` are deleted.
    pub(super) fn after(&self, count: usize, deleted_to: u64, deleted_bytes: u64) -> Note {
        let packed = self.groups.iter().take(count);
        let until = packed.clone().next_back().map_or(0, |(head, _)| head.end());
        let bytes: u64 = packed.map(|(_, bytes)| bytes).sum();
        Note {
            until: self.note.until.max(until).max(deleted_to),
            bytes: self.note.bytes.saturating_add(bytes).saturating_sub(deleted_bytes),
            from: self.note.from,
        }
    }

    /// The oldest so many groups are packed, and this is noted.
    pub(super) fn packed(&mut self, count: usize, note: Note) {
        for (head, bytes) in self.groups.drain(..count.min(self.groups.len())) {
            self.weight -= weight(&head);
            self.bytes -= bytes;
        }
        self.note = note;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::clock::Timestamp;

    fn head(first: u64, count: u32, ids: usize, at: u64) -> Head {
        let received = Timestamp::from_millis(at);
        Head { first, count, received, ids: vec![[first, 7]; ids] }
    }

    fn of(groups: &[(usize, u64, u64)]) -> Unpacked {
        let (mut unpacked, mut first, mut at) = (Unpacked::default(), 1, 0);
        for (ids, bytes, later) in groups {
            let count = u32::try_from(*ids).unwrap().max(1);
            at += later;
            unpacked.push(head(first, count, *ids, at), *bytes);
            first += u64::from(count);
        }
        unpacked
    }

    proptest! {
        #[test]
        fn what_is_due_is_packed_and_what_is_held_stays_bounded(
            groups in vec((0usize..30, 1u64..6 << 20, 0u64..400), 0..200),
        ) {
            let bounds = Bounds::of_window(Duration::from_secs(64), 64 * 50);
            let (all, mut unpacked, mut sum) = (of(&groups), of(&groups), 0);
            let mut rounds = 0;
            while unpacked.full(bounds) > 0 {
                let count = unpacked.full(bounds);
                let ids: usize = unpacked.groups.iter().take(count).map(|(h, _)| weight(h)).sum();
                prop_assert!(ids <= RUNS * 80);
                sum += unpacked.groups.iter().take(count).map(|(_, bytes)| bytes).sum::<u64>();
                let note = unpacked.after(count, 0, 0);
                unpacked.packed(count, note);
                prop_assert_eq!(unpacked.note.bytes, sum);
                let next = unpacked.groups.front().map(|(head, _)| head.first);
                prop_assert!(next.is_none_or(|first| first == unpacked.note.until));
                rounds += 1;
            }
            prop_assert!(!unpacked.is_due(bounds), "what is due can be packed");
            prop_assert!(rounds <= 1 + groups.len() / RUNS);
            let ends = unpacked.groups.front().zip(unpacked.groups.back());
            let apart = ends.map_or(0, |(a, b)| b.0.received.as_millis() - a.0.received.as_millis());
            prop_assert!(apart <= 1000, "nothing is held longer than a part of the window");
            let left: u64 = unpacked.groups.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(left + sum, all.bytes);
            prop_assert_eq!(left, unpacked.bytes);
        }
    }

    #[test]
    fn only_full_records_are_written_for_themselves() {
        let bounds = Bounds::of_window(Duration::from_secs(64_000), 64 * 10);
        let small = (4, 1, 0);
        assert_eq!(of(&[small, small]).full(bounds), 0);
        // A third makes more than ten: two are a record, and the third waits for more.
        assert_eq!(of(&[small; 3]).full(bounds), 2);
        assert_eq!(of(&[small; 4]).full(bounds), 2);
        assert_eq!(of(&[(10, 1, 0)]).full(bounds), 1);
        assert_eq!(of(&[(300, 1, 0), small]).full(bounds), 1);
        assert_eq!(of(&[(1, MOST_BYTES, 0)]).full(bounds), 1);
        assert_eq!(of(&[(0, 1, 0); 10]).full(bounds), 10, "lost events bring no ids");
    }

    #[test]
    fn deleting_what_is_packed_packs_nothing() {
        let mut unpacked = of(&[(2, 100, 0), (3, 50, 0), (1, 7, 0)]);
        assert_eq!((unpacked.before(2), unpacked.before(3), unpacked.before(6)), (0, 1, 2));
        let note = unpacked.after(2, 0, 0);
        assert_eq!((note.until, note.bytes), (6, 150));
        unpacked.packed(2, note);
        assert_eq!(unpacked.before(3), 0);
        // The first record goes, then the second with the one that is not packed.
        assert_eq!(unpacked.after(0, 3, 100).bytes, 50);
        let all = unpacked.after(unpacked.before(7), 7, 157);
        assert_eq!((all.until, all.bytes), (7, 0));
    }
}
