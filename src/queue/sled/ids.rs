//! Ids packed: many groups' ids in one record of `d|`, whether their events are gone or not.
//!
//! Small records are merged as they come, each only with one that is not larger, so that an id is
//! rewritten a few times at most, and the records become few and large.

use std::{collections::VecDeque, time::Duration};

use super::{
    database::Db,
    keys,
    record::Head,
    writer::{Broken, Entries},
};
use crate::clock::Timestamp;

/// The most ids in a record, which is to fit into 8 KiB of sled's memory.
const MOST: usize = 500;
/// The most ids that wait to be packed: eight records are written at once.
const DUE: usize = 8 * MOST;

/// A record under `d|`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) ids: usize,
    pub(super) received: Timestamp,
}

impl From<&Head> for Packed {
    fn from(head: &Head) -> Self {
        let ids = head.ids.len();
        Self { first: head.first, end: head.end(), ids, received: head.received }
    }
}

/// What bounds a record, so that ids leave the window little by little.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    most: usize,
    due: usize,
    span: Duration,
}

impl Bounds {
    /// Small parts of a window of so much time and so many ids.
    pub(super) fn of_window(window: Duration, max: usize) -> Self {
        let (most, due) = ((max / 64).clamp(1, MOST), (max / 64).clamp(1, DUE));
        Self { most, due, span: window / 64 }
    }

    /// The most ids in a record.
    pub(super) fn most(self) -> usize {
        self.most
    }

    /// With so many ids they are to be packed.
    pub(super) fn due(self) -> usize {
        self.due
    }

    /// The longest time between the first and the last of them.
    pub(super) fn span(self) -> Duration {
        self.span
    }

    /// Only of events that follow each other, so that a record speaks of no number in between, and
    /// not more than can be counted.
    fn allow(self, older: Packed, newer: &Head) -> bool {
        older.end == newer.first
            && u32::try_from(newer.end().saturating_sub(older.first)).is_ok()
            && older.ids + newer.ids.len() <= self.most
            && newer.received.since(older.received) <= self.span
    }
}

/// Writes these groups' ids down, in order, behind the records that there are. What there is then.
pub(super) fn pack(
    db: &Db,
    mut there: VecDeque<Packed>,
    groups: Vec<Head>,
    bounds: Bounds,
    entries: &mut Entries,
) -> Result<VecDeque<Packed>, Broken> {
    let mut run: Option<Head> = None;
    for group in groups {
        run = Some(match run {
            Some(before) if bounds.allow((&before).into(), &group) => join(before, group),
            Some(before) => {
                place(db, &mut there, before, bounds, entries)?;
                group
            }
            None => group,
        });
    }
    if let Some(run) = run {
        place(db, &mut there, run, bounds, entries)?;
    }
    Ok(there)
}

fn place(
    db: &Db,
    there: &mut VecDeque<Packed>,
    mut head: Head,
    bounds: Bounds,
    entries: &mut Entries,
) -> Result<(), Broken> {
    while let Some(last) = there.back()
        && last.ids <= head.ids.len()
        && bounds.allow(*last, &head)
        // What this commit writes cannot be read yet.
        && let Some(value) = db.get(keys::ids(last.first))?
    {
        let before = Head::decode_ids(&value).map_err(|error| Broken(error.to_string()))?;
        entries.push((keys::ids(last.first), None));
        head = join(before, head);
        there.pop_back();
    }
    there.push_back((&head).into());
    entries.push((keys::ids(head.first), Some(head.encode_ids())));
    Ok(())
}

fn join(mut before: Head, after: Head) -> Head {
    before.count = u32::try_from(after.end().saturating_sub(before.first)).unwrap_or(u32::MAX);
    before.received = before.received.max(after.received);
    before.ids.extend(after.ids);
    before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn records(db: &Db) -> Vec<Head> {
        db.range(keys::all(keys::IDS)).map(|e| Head::decode_ids(&e.unwrap().1).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn all_ids_stay_in_order_in_few_records_within_their_bounds(
            commits in proptest::collection::vec(proptest::collection::vec(1usize..9, 1..6), 1..40),
        ) {
            let db = Db::open(&sled::Config::new().temporary(true)).unwrap();
            let bounds = Bounds { most: 64, due: 64, span: HOUR };
            let (mut there, mut next, mut all) = (VecDeque::new(), 1_u64, Vec::new());
            for commit in &commits {
                let mut groups = Vec::new();
                for count in commit {
                    let count = u32::try_from(*count).unwrap();
                    let end = next + u64::from(count);
                    let ids: Vec<_> = (next..end).map(|number| [number, 0]).collect();
                    all.extend(ids.iter().copied());
                    let received = Timestamp::from_millis(next);
                    groups.push(Head { first: next, count, received, ids });
                    next = end;
                }
                let mut entries = Entries::new();
                there = pack(&db, there, groups, bounds, &mut entries).unwrap();
                db.write_at_once(&entries).unwrap();
            }
            let found = records(&db);
            let ids: Vec<_> = found.iter().flat_map(|head| head.ids.clone()).collect();
            prop_assert_eq!(&ids, &all);
            let mut expected = 1;
            for head in &found {
                prop_assert!(head.first == expected && head.ids.len() <= 64);
                expected = head.end();
            }
            prop_assert_eq!(expected, next);
            prop_assert!(found.len() <= all.len() / 16 + 8, "{} records", found.len());
            let known: BTreeMap<_, _> = there.iter().map(|p| (p.first, p.ids)).collect();
            let there: BTreeMap<_, _> = found.iter().map(|h| (h.first, h.ids.len())).collect();
            prop_assert_eq!(known, there);
        }
    }

    #[test]
    fn ids_with_other_events_between_them_stay_apart() {
        let db = Db::open(&sled::Config::new().temporary(true)).unwrap();
        let received = Timestamp::default();
        let head = |first| Head { first, count: 1, received, ids: vec![[first, 0]] };
        let bounds = Bounds { most: 64, due: 64, span: HOUR };
        let mut there = VecDeque::new();
        for groups in [vec![head(1)], vec![head(3), head(5)], vec![head(6)]] {
            let mut entries = Entries::new();
            there = pack(&db, there, groups, bounds, &mut entries).unwrap();
            db.write_at_once(&entries).unwrap();
        }
        let ends: Vec<_> = records(&db).iter().map(|head| (head.first, head.end())).collect();
        assert_eq!(ends, [(1, 2), (3, 4), (5, 7)]);
    }

    #[test]
    fn ids_of_times_far_apart_stay_apart() {
        let db = Db::open(&sled::Config::new().temporary(true)).unwrap();
        let head = |first, hours: u32| {
            let received = Timestamp::default().after(HOUR * hours);
            Head { first, count: 1, received, ids: vec![[first, 0]] }
        };
        let bounds = Bounds { most: 64, due: 64, span: HOUR };
        let mut entries = Entries::new();
        pack(&db, VecDeque::new(), vec![head(1, 0), head(2, 5)], bounds, &mut entries).unwrap();
        db.write_at_once(&entries).unwrap();
        assert_eq!(records(&db).len(), 2);
    }
}
