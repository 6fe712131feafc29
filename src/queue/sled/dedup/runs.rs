//! Which ids are in which run, and when those of the groups stored last get into one.
//!
//! The log has two parts. Up to the end of the last run the ids of all events are in runs; from
//! there on they stand only with their events. So a start reads the runs and the end of the log,
//! however long that is. Ids get into runs when sled is about to be written anyway, and when their
//! events are deleted. The last run is written anew until it is full.

use std::{collections::VecDeque, ops::Range, time::Duration};

use crate::{
    clock::Timestamp,
    queue::sled::codec::{
        record::{Head, Id},
        run::{Run, RunHead},
    },
};

/// The most ids in a run, which fits into 8 KiB of sled's memory so.
const MOST: usize = 500;
/// The most bytes of records in a run: a start reads the records of a run that was deleted in part.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What bounds a run, so that ids leave the window little by little.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    most: usize,
    span: Duration,
}

impl Bounds {
    /// Small parts of a window of this length and this number of ids.
    pub(crate) fn of_window(window: Duration, max: usize) -> Self {
        Self { most: (max / 64).clamp(1, MOST), span: window / 64 }
    }

    /// Only groups that follow each other, so that a run speaks of no number in between, and not
    /// more than can be counted.
    fn allow(self, run: &Run, group: &Run) -> bool {
        run.head.end() == group.head.first
            && run.head.count.checked_add(group.head.count).is_some()
            && run.head.ids.len() + group.head.ids.len() <= self.most
            && run.bytes.saturating_add(group.bytes) <= MOST_BYTES
            && group.head.received.since(run.head.received) <= self.span
    }
}

/// The runs, and the groups behind them.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Runs, then groups that are in none, each as a run of its own; oldest first, without a hole.
    /// Ids are here of the groups, and of the last run, which may grow.
    spans: VecDeque<Run>,
    /// The number of runs.
    packed: usize,
    /// Ids of events below have left the window.
    ids_from: u64,
}

/// What has the oldest ids in the window: a run, or a group that is in no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oldest<'a> {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) received: Timestamp,
    /// `None` if only the run on disk has them.
    pub(crate) ids: Option<&'a [Id]>,
}

impl Runs {
    /// Ids of events below have left the window.
    pub(crate) fn ids_from(&self) -> u64 {
        self.ids_from
    }

    /// A group was stored.
    pub(crate) fn push(&mut self, head: Head, bytes: u64) {
        self.spans.push_back(Run { head, bytes });
    }

    /// The next run, as a start finds them, before any group.
    pub(crate) fn push_run(&mut self, run: Run) {
        self.drop_ids(self.packed.saturating_sub(1)..self.packed);
        self.spans.push_back(run);
        self.packed = self.spans.len();
    }

    /// The runs, oldest first.
    pub(crate) fn packed(&self) -> impl Iterator<Item = RunHead> {
        self.spans.range(..self.packed).map(Run::head)
    }

    /// Ids of events below are out of the window.
    pub(crate) fn begin_at(&mut self, ids_from: u64) {
        self.ids_from = self.ids_from.max(ids_from);
    }

    /// Packs the groups that end here or before; the runs to write, as they are now.
    pub(crate) fn pack(&mut self, end: u64, bounds: Bounds) -> Vec<Run> {
        let mut groups = self.spans.split_off(self.packed);
        let mut first_written = self.packed;
        while groups.front().is_some_and(|group| group.head.end() <= end)
            && let Some(mut group) = groups.pop_front()
        {
            // A run has left the window as a whole, or not; it grows no more in a later packing then.
            let has_left = |run: &Run| run.head.first < self.ids_from;
            let left = has_left(&group);
            if left {
                group.head.ids.clear();
            }
            let last = self.spans.len().saturating_sub(1);
            match self.spans.back_mut() {
                Some(run)
                    if bounds.allow(run, &group)
                        && has_left(run) == left
                        && (!left || last >= first_written) =>
                {
                    run.head.count += group.head.count;
                    run.head.received = run.head.received.max(group.head.received);
                    run.head.ids.append(&mut group.head.ids);
                    run.bytes += group.bytes;
                    first_written = first_written.min(last);
                }
                _ => self.spans.push_back(group),
            }
        }
        self.packed = self.spans.len();
        let written: Vec<Run> = self.spans.range(first_written..).cloned().collect();
        self.drop_ids(first_written.saturating_sub(1)..self.packed.saturating_sub(1));
        self.spans.append(&mut groups);
        written
    }

    /// Runs behind which there is another one do not grow: their ids are on disk.
    fn drop_ids(&mut self, runs: Range<usize>) {
        for index in runs {
            if let Some(run) = self.spans.get_mut(index) {
                run.head.ids = Vec::new();
            }
        }
    }

    /// What has the oldest ids in the window.
    pub(crate) fn oldest(&self) -> Option<Oldest<'_>> {
        let index = self.spans.partition_point(|run| run.head.first < self.ids_from);
        let Run { head, .. } = self.spans.get(index)?;
        let ids = (index + 1 >= self.packed).then_some(head.ids.as_slice());
        Some(Oldest { first: head.first, end: head.end(), received: head.received, ids })
    }

    /// Runs that neither the window nor the log needs any more leave; the first number of each.
    pub(crate) fn release(&mut self, oldest_event: u64) -> Vec<u64> {
        let end = self.ids_from.min(oldest_event);
        let kept = self.spans.range(..self.packed).position(|run| run.head.end() > end);
        let count = kept.unwrap_or(self.packed);
        self.packed -= count;
        self.spans.drain(..count).map(|run| run.head.first).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn group(first: u64, count: u32, ids: usize, at: u64) -> Head {
        let received = Timestamp::from_millis(at);
        Head { first, count, received, ids: vec![u128::from(first).to_be_bytes(); ids] }
    }

    /// Groups: the ids of each, its bytes, and its milliseconds after the one before.
    fn of(groups: &[(usize, u64, u64)]) -> Runs {
        let (mut runs, mut first, mut at) = (Runs::default(), 1, 0);
        for (ids, bytes, later) in groups {
            let count = u32::try_from(*ids).unwrap().max(1);
            at += later;
            runs.push(group(first, count, *ids, at), *bytes);
            first += u64::from(count);
        }
        runs
    }

    fn bounds(most: usize) -> Bounds {
        Bounds::of_window(Duration::from_secs(64), 64 * most)
    }

    fn ends(runs: &[Run]) -> Vec<(u64, u64)> {
        runs.iter().map(|run| (run.head.first, run.head.end())).collect()
    }

    proptest! {
        #[test]
        fn all_ids_get_into_few_runs_in_order_and_within_their_bounds(
            groups in vec((0usize..9, 1u64..1000, 0u64..20), 1..200),
            steps in vec(1u64..60, 1..20),
        ) {
            let (mut runs, bounds) = (of(&groups), bounds(40));
            let all: Vec<Id> = runs.spans.iter().flat_map(|run| run.head.ids.clone()).collect();
            let bytes: u64 = groups.iter().map(|(_, bytes, _)| bytes).sum();
            let end = runs.spans.back().unwrap().head.end();
            let mut disk = std::collections::BTreeMap::new();
            let mut at = 1;
            for step in steps.into_iter().chain([end]) {
                at = end.min(at + step);
                for run in runs.pack(at, bounds) {
                    disk.insert(run.head.first, run);
                }
            }
            let there: Vec<RunHead> = disk.values().map(Run::head).collect();
            prop_assert_eq!(there, runs.packed().collect::<Vec<_>>());
            let ids: Vec<Id> = disk.values().flat_map(|run| run.head.ids.clone()).collect();
            prop_assert_eq!(ids, all);
            prop_assert_eq!(disk.values().map(|run| run.bytes).sum::<u64>(), bytes);
            let mut next = 1;
            for run in disk.values() {
                prop_assert_eq!(run.head.first, next);
                prop_assert!(run.head.ids.len() <= 40);
                next = run.head.end();
            }
            prop_assert_eq!(next, end);
            prop_assert!(disk.len() <= 1 + groups.len() / 4, "{} runs", disk.len());
        }
    }

    #[test]
    fn a_run_that_is_full_or_old_is_not_written_again() {
        let mut runs = of(&[(4, 1, 0); 3]);
        assert_eq!(ends(&runs.pack(13, bounds(10))), [(1, 9), (9, 13)]);
        assert_eq!(ends(&runs.pack(13, bounds(10))), []);
        runs.push(group(13, 4, 4, 0), 1);
        assert_eq!(ends(&runs.pack(17, bounds(10))), [(9, 17)]);
        // A part of the window later.
        runs.push(group(17, 1, 1, 1001), 1);
        assert_eq!(ends(&runs.pack(18, bounds(10))), [(17, 18)]);
        let mut large = of(&[(1, MOST_BYTES, 0), (1, 1, 0)]);
        assert_eq!(ends(&large.pack(3, bounds(10))), [(1, 2), (2, 3)]);
    }

    /// The oldest ids leave the window.
    fn pass_oldest(runs: &mut Runs) -> Vec<Id> {
        let oldest = runs.oldest().unwrap();
        let (end, ids) = (oldest.end, oldest.ids.unwrap_or_default().to_vec());
        runs.begin_at(end);
        ids
    }

    #[test]
    fn ids_in_the_window_are_not_packed_with_those_that_left_it() {
        let mut runs = of(&[(1, 1, 0); 4]);
        for _ in 0..2 {
            assert_eq!(pass_oldest(&mut runs).len(), 1);
        }
        let packed = runs.pack(5, bounds(10));
        assert_eq!(ends(&packed), [(1, 3), (3, 5)]);
        assert_eq!((packed[0].head.ids.len(), packed[1].head.ids.len()), (0, 2));
        // Nor does a run that has left it grow.
        pass_oldest(&mut runs);
        runs.push(group(5, 1, 1, 0), 1);
        assert_eq!(ends(&runs.pack(6, bounds(10))), [(5, 6)]);
    }

    #[test]
    fn a_run_stays_as_long_as_the_window_has_its_ids_or_the_log_its_events() {
        let mut runs = of(&[(10, 1, 0), (10, 1, 0), (3, 1, 5)]);
        runs.pack(21, bounds(10));
        assert!(runs.release(21).is_empty());
        assert!(matches!(runs.oldest(), Some(Oldest { first: 1, end: 11, ids: None, .. })));
        assert!(pass_oldest(&mut runs).is_empty());
        assert_eq!((runs.release(1), runs.ids_from()), (vec![], 11));
        assert_eq!(runs.release(11), [1]);
        assert!(matches!(runs.oldest(), Some(Oldest { first: 11, ids: Some([_, ..]), .. })));
        pass_oldest(&mut runs);
        assert_eq!(runs.oldest().unwrap().received, Timestamp::from_millis(5));
        assert_eq!(pass_oldest(&mut runs), [21_u128.to_be_bytes(); 3]);
        assert_eq!((runs.oldest(), runs.ids_from()), (None, 24));
        // A run that left the window does not grow.
        assert_eq!(ends(&runs.pack(24, bounds(100))), [(21, 24)]);
        assert_eq!(runs.release(24), [11, 21]);
    }
}
