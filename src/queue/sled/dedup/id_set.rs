//! A set of millions of ids, in little more memory than they take.
//!
//! A hash table doubles when it is full, so it has twice the memory that it needs, for a moment
//! three times as much, and whoever adds to it waits while everything moves. The ids are keyed
//! hashes already, so they are spread evenly over many small lists.

use crate::queue::sled::codec::record::Id;

/// Ids in a list when the set is full, about: some hundred bytes, read in one go.
const LIST: usize = 32;
/// The most lists, which take 6 MiB. Larger sets have longer ones.
const MOST: usize = 1 << 18;
/// Ids that a list gets room for at once; it gives room back when it has twice as much too much.
const STEP: usize = 4;

/// The set.
#[derive(Debug)]
pub(crate) struct IdSet {
    lists: Vec<Vec<Id>>,
    len: usize,
}

impl IdSet {
    /// Made for up to `most` ids; it can hold more, but it is slower then.
    pub(crate) fn of_up_to(most: usize) -> Self {
        Self { lists: vec![Vec::new(); (most / LIST).clamp(1, MOST)], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn sorted(&self) -> Vec<Id> {
        let mut ids = self.lists.concat();
        ids.sort_unstable();
        ids
    }

    /// The number of the list that this id belongs to.
    fn list(&self, id: Id) -> usize {
        let first = id.first_chunk().copied().map_or(0, u64::from_be_bytes);
        let lists = u128::try_from(self.lists.len()).unwrap_or(0);
        usize::try_from((u128::from(first) * lists) >> 64).unwrap_or(0)
    }

    pub(crate) fn contains(&self, id: &Id) -> bool {
        self.lists.get(self.list(*id)).is_some_and(|list| list.contains(id))
    }

    /// Adds ids that it does not know: it does not look for them. One that is added twice is to be
    /// removed twice.
    pub(crate) fn extend(&mut self, ids: &[Id]) {
        for id in ids {
            let list = self.list(*id);
            let Some(list) = self.lists.get_mut(list) else { continue };
            if list.len() == list.capacity() {
                list.reserve_exact(STEP);
            }
            list.push(*id);
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: &Id) {
        let list = self.list(*id);
        let Some(list) = self.lists.get_mut(list) else { return };
        let Some(index) = list.iter().position(|known| known == id) else { return };
        list.swap_remove(index);
        if list.capacity() - list.len() > 2 * STEP {
            list.shrink_to(list.len() + STEP);
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn random(random: &mut fastrand::Rng) -> Id {
        random.u128(..).to_be_bytes()
    }

    fn room(set: &IdSet) -> usize {
        set.lists.iter().map(Vec::capacity).sum()
    }

    #[test]
    fn it_has_little_more_room_than_it_needs_however_long_ids_come_and_go() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut set, mut window) = (IdSet::of_up_to(10_000), VecDeque::new());
        for count in 1..=100_000 {
            let id = random(&mut rng);
            set.extend(&[id]);
            window.push_back(id);
            if window.len() > 10_000 {
                set.remove(&window.pop_front().unwrap());
            }
            assert_eq!(set.len(), window.len());
            if count % 1000 == 0 {
                assert!(room(&set) <= set.len() + set.lists.len() * 2 * STEP, "{}", room(&set));
            }
        }
        assert_eq!(set.lists.len(), 312);
        assert!(set.lists.iter().all(|list| list.len() < 3 * LIST), "they are spread evenly");
        assert!(window.iter().all(|id| set.contains(id)));
        for id in &window {
            set.remove(id);
        }
        assert!(set.len() == 0 && room(&set) <= set.lists.len() * 2 * STEP);
    }

    proptest! {
        #[test]
        fn it_knows_what_was_added_more_often_than_removed(
            most in 0usize..1000,
            changes in proptest::collection::vec((any::<bool>(), 0u64..20), 0..100),
        ) {
            let id = |number: u64| {
                let high = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (u128::from(high) << 64 | u128::from(number)).to_be_bytes()
            };
            let (mut set, mut known) = (IdSet::of_up_to(most), BTreeMap::<_, usize>::new());
            for (comes, number) in changes {
                if comes {
                    set.extend(&[id(number)]);
                    *known.entry(number).or_default() += 1;
                } else {
                    set.remove(&id(number));
                    known.entry(number).and_modify(|count| *count = count.saturating_sub(1));
                }
                prop_assert_eq!(set.len(), known.values().sum::<usize>());
            }
            for number in 0..20 {
                let expected = known.get(&number).is_some_and(|count| *count > 0);
                prop_assert_eq!(set.contains(&id(number)), expected);
            }
        }
    }
}
