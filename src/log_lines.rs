//! What may stand in a log line, and how often the same line is written.
//!
//! Owns the rate of lines that a peer can cause, and the masking of numbers that may be a person's; `printable` owns which
//! characters are shown as they are. Who writes a line, and its words, are elsewhere.

pub mod printable;

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::Hash,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// So many keys are remembered; lines for further ones are left out until some windows are over.
const MAX_KEYS: usize = 1024;
/// Digits of a national identity number.
const IDENTITY_DIGITS: usize = 11;

/// One line for each key and interval; what is left out is counted.
#[derive(Debug)]
pub struct LogRate<K, V = ()> {
    every: Duration,
    windows: Mutex<HashMap<K, Window<V>>>,
}

#[derive(Debug)]
struct Window<V> {
    opened: Instant,
    /// The last occurrence that was left out, and how many were.
    left_out: Option<(V, u64)>,
}

/// Occurrences that no line has told yet.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut<K, V> {
    /// Whose.
    pub key: K,
    /// The last of them.
    pub last: V,
    /// How many.
    pub count: u64,
}

impl<K: Eq + Hash + Clone, V> LogRate<K, V> {
    /// At most one line for a key in this time.
    pub fn new(every: Duration) -> Self {
        Self { every, windows: Mutex::default() }
    }

    /// Notes an occurrence. `Some(count)`: write a line now, for `count` occurrences, this one included.
    pub fn note(&self, key: K, value: V) -> Option<u64> {
        let now = Instant::now();
        let mut windows = self.windows();
        if windows.len() >= MAX_KEYS && !windows.contains_key(&key) {
            windows.retain(|_, window| now - window.opened < self.every);
            if windows.len() >= MAX_KEYS {
                return None;
            }
        }
        let window = windows.entry(key);
        let window = match window {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Window { opened: now, left_out: None });
                return Some(1);
            }
            std::collections::hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        let before = window.left_out.take().map_or(0, |(_, count)| count);
        if now - window.opened < self.every {
            window.left_out = Some((value, before + 1));
            return None;
        }
        window.opened = now;
        Some(before + 1)
    }

    /// What was left out in windows that are over, or in all of them at the end. Each begins anew.
    pub fn left_out(&self, at_the_end: bool) -> Vec<LeftOut<K, V>> {
        let now = Instant::now();
        let mut told = Vec::new();
        self.windows().retain(|key, window| {
            if now - window.opened < self.every && !at_the_end {
                return true;
            }
            let Some((last, count)) = window.left_out.take() else { return false };
            told.push(LeftOut { key: key.clone(), last, count });
            window.opened = now;
            true
        });
        told
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<K, Window<V>>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text with asterisks for each run of exactly eleven digits: it may be a person's number.
pub fn masked(text: &str) -> Cow<'_, str> {
    let runs = identity_numbers(text);
    if runs.is_empty() {
        return Cow::Borrowed(text);
    }
    let hidden = |at: usize| runs.iter().any(|run| run.contains(&at));
    let shown = text.char_indices().map(|(at, c)| if hidden(at) { '*' } else { c });
    Cow::Owned(shown.collect())
}

fn identity_numbers(text: &str) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for (end, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if c.is_ascii_digit() {
            continue;
        }
        if end - start == IDENTITY_DIGITS {
            runs.push(start..end);
        }
        start = end + c.len_utf8();
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_line_in_its_time_and_every_occurrence_is_in_a_count() {
        let rate = LogRate::new(SECOND);
        assert_eq!(rate.note("a", 1), Some(1));
        assert_eq!(rate.note("b", 2), Some(1), "each key has its own");
        assert_eq!((rate.note("a", 3), rate.note("a", 4)), (None, None));
        assert!(rate.left_out(false).is_empty(), "the window is not over");
        tokio::time::advance(SECOND).await;
        assert_eq!(rate.left_out(false), [LeftOut { key: "a", last: 4, count: 2 }]);
        assert!(rate.left_out(false).is_empty(), "told once");
        // What was told late is a line, too: the next has to wait for its time.
        assert_eq!(rate.note("a", 5), None);
        tokio::time::advance(SECOND).await;
        assert_eq!(rate.note("a", 6), Some(2));
        assert_eq!(rate.note("a", 7), None);
        assert_eq!(rate.left_out(true), [LeftOut { key: "a", last: 7, count: 1 }]);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_bounded() {
        let rate = LogRate::new(SECOND);
        let lines = (0..3 * MAX_KEYS).filter_map(|key| rate.note(key, ())).count();
        assert_eq!(lines, MAX_KEYS);
        tokio::time::advance(SECOND).await;
        assert_eq!(rate.note(usize::MAX, ()), Some(1));
        assert_eq!(rate.windows().len(), 1);
    }

    #[test]
    fn eleven_digits_are_masked_wherever_they_stand() {
        for (text, shown) in [
            ("01017012345", "***********"),
            ("urn:person:01017012345", "urn:person:***********"),
            ("p01017012345/x", "p***********/x"),
            ("01017012345-01017012346", "***********-***********"),
            ("æ01017012345ø", "æ***********ø"),
            ("1764500000000", "1764500000000"),
            ("0101701234", "0101701234"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_keeps_a_run_of_eleven_digits(text in "[0-9a-z]{0,3}([0-9]{9,13}[^0-9]{0,2}){0,4}") {
            let shown = masked(&text).into_owned();
            let runs = shown.split(|c: char| !c.is_ascii_digit());
            prop_assert!(runs.map(str::len).all(|length| length != IDENTITY_DIGITS), "{shown}");
            prop_assert_eq!(shown.chars().count(), text.chars().count());
        }
    }
}
