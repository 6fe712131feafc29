//! What a handler has settled of the log: everything below a number, and some above it.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// How far above the lowest unsettled event settled ones may lie; bounds memory and the value that
/// is written. One event that is in flight for ever holds the handler up at this distance.
pub(super) const WIDTH: u64 = 65_536;

/// Settled events, as one number and a bitmap above it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, VecDeque<u64>)")]
pub(super) struct AckWindow {
    low: u64,
    /// Bit `i` of word `k` is event `base + 64 k + i`, where `base` is `low` rounded down to 64.
    /// Bits below `low` are set.
    words: VecDeque<u64>,
    /// Settled, but out of reach: deliveries that were in flight or waited for a retry when the cursor was set
    /// far back. Known in memory only, until the window comes to them.
    #[serde(skip)]
    beyond: BTreeSet<u64>,
}

impl AckWindow {
    /// Everything below `low` is settled.
    pub(super) fn starting_at(low: u64) -> Self {
        Self { low, ..Self::default() }
    }

    /// The lowest unsettled event.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// The number of settled events above it.
    pub(super) fn above(&self) -> u64 {
        let set: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        let within = if self.words.is_empty() { 0 } else { set - self.low % 64 };
        within + u64::try_from(self.beyond.len()).unwrap_or(u64::MAX)
    }

    /// Whether this event is far enough down to be given out.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        seq.saturating_sub(self.low) < WIDTH
    }

    /// Whether this event is settled.
    pub(super) fn contains(&self, seq: u64) -> bool {
        seq < self.low
            || self
                .bit(seq)
                .and_then(|(word, bit)| Some(self.words.get(word)? & bit != 0))
                .unwrap_or(false)
            || self.beyond.contains(&seq)
    }

    /// Marks it settled. Out of reach, this is not written down, and after a restart it comes again.
    pub(super) fn settle(&mut self, seq: u64) {
        if self.reaches(seq) {
            self.mark(seq);
            self.catch_up();
        } else {
            self.beyond.insert(seq);
        }
    }

    fn catch_up(&mut self) {
        while let Some(seq) = self.beyond.first().copied().filter(|seq| self.reaches(*seq)) {
            self.beyond.pop_first();
            self.mark(seq);
        }
    }

    fn mark(&mut self, seq: u64) {
        let Some((word, bit)) = self.bit(seq).filter(|_| seq >= self.low) else { return };
        while self.words.len() <= word {
            let below = if self.words.is_empty() { (1 << (self.low % 64)) - 1 } else { 0 };
            self.words.push_back(below);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
        self.advance();
    }

    /// Settled here or there.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.low > self.low {
            self.raise(other.low);
        }
        for seq in other.low..other.end() {
            if other.contains(seq) {
                self.settle(seq);
            }
        }
        for seq in &other.beyond {
            self.settle(*seq);
        }
    }

    /// Everything below `low` is settled, or gone.
    pub(super) fn raise(&mut self, low: u64) {
        while self.low < low && !self.words.is_empty() {
            self.settle(self.low);
        }
        self.low = self.low.max(low);
        self.catch_up();
    }

    /// Above this, nothing is settled that is within reach.
    fn end(&self) -> u64 {
        let words = u64::try_from(self.words.len()).unwrap_or(u64::MAX);
        (self.low - self.low % 64).saturating_add(words.saturating_mul(64))
    }

    fn bit(&self, seq: u64) -> Option<(usize, u64)> {
        let offset = seq.checked_sub(self.low - self.low % 64)?;
        Some((usize::try_from(offset / 64).ok()?, 1 << (offset % 64)))
    }

    fn advance(&mut self) {
        while let Some(word) = self.words.front() {
            let settled = u64::from((!word).trailing_zeros());
            let base = self.low - self.low % 64;
            self.low = self.low.max(base.saturating_add(settled));
            if settled < 64 {
                break;
            }
            self.words.pop_front();
        }
    }
}

impl From<(u64, VecDeque<u64>)> for AckWindow {
    /// The window that was written so. Any other numbers make one as well, within its width.
    fn from((low, mut words): (u64, VecDeque<u64>)) -> Self {
        let most = ((u64::MAX - low) / 64).min(WIDTH / 64);
        words.truncate(usize::try_from(most).unwrap_or(0) + 1);
        if let Some(first) = words.front_mut() {
            *first |= (1 << (low % 64)) - 1;
        }
        let mut window = Self { low, words, beyond: BTreeSet::new() };
        window.advance();
        window
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{queue::sled::codec::CURSOR, store::codec};

    fn read_again(window: &AckWindow) -> AckWindow {
        codec::decode(CURSOR, &codec::encode(CURSOR, window)).unwrap()
    }

    proptest! {
        #[test]
        fn it_knows_what_a_set_knows(
            start in 0u64..300,
            settles in proptest::collection::vec(0u64..500, 0..400),
        ) {
            let mut window = AckWindow::starting_at(start);
            let mut set: BTreeSet<u64> = (0..start).collect();
            for seq in settles {
                window.settle(seq);
                set.insert(seq);
            }
            let low = (0..1000).find(|seq| !set.contains(seq)).unwrap();
            prop_assert_eq!(window.low(), low);
            for seq in 0..700 {
                prop_assert_eq!(window.contains(seq), set.contains(&seq), "{}", seq);
            }
            prop_assert_eq!(window.above(), u64::try_from(set.range(low..).count()).unwrap());
            let read = read_again(&window);
            for seq in 0..700 {
                prop_assert_eq!(read.contains(seq), set.contains(&seq));
            }
            let mut merged = AckWindow::starting_at(start / 2);
            merged.merge(&window);
            prop_assert_eq!(merged.low(), low);
        }
    }

    #[test]
    fn what_is_out_of_reach_is_known_and_written_down_when_it_is_reached() {
        let mut window = AckWindow::starting_at(10);
        for seq in [9 + WIDTH, 10 + WIDTH, 11 + WIDTH, 20 + WIDTH] {
            window.settle(seq);
            assert!(window.contains(seq), "{seq}");
        }
        assert_eq!(window.above(), 4);
        let read = read_again(&window);
        assert!(read.contains(9 + WIDTH) && !read.contains(10 + WIDTH) && read.above() == 1);
        window.settle(10);
        let read = read_again(&window);
        assert!(read.contains(10 + WIDTH) && !read.contains(11 + WIDTH));
        let mut merged = AckWindow::starting_at(5);
        merged.merge(&window);
        assert_eq!(merged, window);
        window.raise(9 + WIDTH);
        assert_eq!((window.low(), window.above()), (12 + WIDTH, 1));
        assert_eq!(read_again(&window), window);
    }
}
