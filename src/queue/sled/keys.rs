//! The keys of the queue: a letter, then what sorts it. `docs/STORE.md` lists them.
//!
//! Numbers are big-endian, so that keys sort as numbers do; all that is written often is written
//! in ascending order, which is what sled is good at.

use std::ops::Range;

use crate::{
    name::HandlerName,
    queue::{BookmarkName, DeadLetterId},
    store::{Layout, chunked::part_of, trees::PARTS},
};

/// Prefix of group records.
pub(super) const EVENTS: u8 = b'e';
/// Prefix of packed ids.
pub(super) const IDS: u8 = b'd';
/// Prefix of handlers' cursors.
pub(super) const CURSORS: u8 = b'c';
/// Prefix of waiting retries.
pub(super) const RETRIES: u8 = b'r';
/// Prefix of dead letters.
pub(super) const DEAD: u8 = b'x';
/// Prefix of undecodable pushes.
pub(super) const RAW: u8 = b'y';
/// Which tree of the store a key is in: the large records of the log, the ids, and the small things
/// that change all the time are kept apart.
pub(super) const LAYOUT: Layout = Layout {
    ids: &[IDS],
    state: &[CURSORS, RETRIES, DEAD, RAW, META],
    chunked: &[EVENTS, RETRIES, DEAD, RAW],
};

const META: u8 = b'm';
/// The dedup key.
pub(super) const DEDUP: &[u8] = b"m|dedup";
/// The bounds of the log and of the dedup window.
pub(super) const LOG: &[u8] = b"m|log";
/// The first number that no undecodable push has had.
pub(super) const NEXT_RAW: &[u8] = b"m|next-raw";
/// The hooks that an event came by that could be told only by its hook.
pub(super) const HOOKS: &[u8] = b"m|hooks";
/// A counter that the high-water file has as well, to see that the last changes are there.
pub(super) const NOTED: &[u8] = b"m|noted";

/// Prefix of what others keep here beside the log.
pub(super) const BOOKMARK: &[u8] = b"m|bookmark|";

/// Ends a handler's name, which holds no such byte.
const END: u8 = 0;

fn numbered(prefix: u8, number: u64) -> Vec<u8> {
    let mut key = vec![prefix, b'|'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// All keys with this prefix.
pub(super) fn all(prefix: u8) -> Range<Vec<u8>> {
    vec![prefix, b'|']..vec![prefix, b'|' + 1]
}

/// The group record that begins with this event.
pub(super) fn event(first: u64) -> Vec<u8> {
    numbered(EVENTS, first)
}

/// The ids of groups of which the first began with this event.
pub(super) fn ids(first: u64) -> Vec<u8> {
    numbered(IDS, first)
}

/// An undecodable push.
pub(super) fn raw(number: u64) -> Vec<u8> {
    numbered(RAW, number)
}

/// A handler's cursor.
pub(super) fn cursor(handler: &HandlerName) -> Vec<u8> {
    [&[CURSORS, b'|'], handler.as_str().as_bytes()].concat()
}

/// A waiting retry.
pub(super) fn retry(due: u64, handler: &HandlerName, seq: u64) -> Vec<u8> {
    let (due, seq) = (due.to_be_bytes(), seq.to_be_bytes());
    [&[RETRIES, b'|'], &due[..], handler.as_str().as_bytes(), &[END], &seq].concat()
}

/// A dead letter.
pub(super) fn dead(handler: &HandlerName, seq: u64) -> Vec<u8> {
    [&[DEAD, b'|'], handler.as_str().as_bytes(), &[END], &seq.to_be_bytes()].concat()
}

/// A bookmark.
pub(super) fn bookmark(name: &BookmarkName) -> Vec<u8> {
    [BOOKMARK, name.as_str().as_bytes()].concat()
}

/// Where a dead letter stands.
pub(super) fn dead_key(id: &DeadLetterId) -> Vec<u8> {
    match id {
        DeadLetterId::Raw(number) => raw(*number),
        DeadLetterId::Delivery(handler, seq) => dead(handler, seq.0),
    }
}

/// The number in a key of events, ids or undecodable pushes.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    key.get(2..)?.try_into().ok().map(u64::from_be_bytes)
}

/// The handler in a cursor's key.
pub(super) fn handler_of(key: &[u8]) -> Option<HandlerName> {
    std::str::from_utf8(key.get(2..)?).ok()?.parse().ok()
}

/// Due time, handler and number in a retry's key.
pub(super) fn retry_of(key: &[u8]) -> Option<(u64, HandlerName, u64)> {
    let (due, rest) = key.get(2..)?.split_first_chunk()?;
    let (handler, seq) = named(rest)?;
    Some((u64::from_be_bytes(*due), handler, seq))
}

/// Handler and number in a dead letter's key.
pub(super) fn dead_of(key: &[u8]) -> Option<(HandlerName, u64)> {
    named(key.get(2..)?)
}

fn named(rest: &[u8]) -> Option<(HandlerName, u64)> {
    let (name, seq) = rest.split_last_chunk()?;
    let (end, name) = name.split_last()?;
    let name = std::str::from_utf8(name).ok().filter(|_| *end == END)?;
    Some((name.parse().ok()?, u64::from_be_bytes(*seq)))
}

/// Whether the queue, or the store for it, writes entries with such a key.
pub(super) fn is_known(key: &[u8]) -> bool {
    let kinds = [EVENTS, IDS, CURSORS, RETRIES, DEAD, RAW, PARTS];
    let has_kind = matches!(key, [kind, b'|', ..] if kinds.contains(kind));
    let notes = [DEDUP, LOG, NEXT_RAW, HOOKS, NOTED];
    has_kind || notes.contains(&key) || key.starts_with(BOOKMARK)
}

/// A key in words.
pub(super) fn name(key: &[u8]) -> String {
    known_name(key).unwrap_or_else(|| format!("the entry {}", key.escape_ascii()))
}

fn known_name(key: &[u8]) -> Option<String> {
    Some(match *key.first()? {
        EVENTS => format!("the record that begins with event {}", number_of(key)?),
        IDS => format!("the ids of the events from {} on", number_of(key)?),
        RAW => format!("the undecodable push raw:{}", number_of(key)?),
        CURSORS => format!("the cursor of handler {}", handler_of(key)?),
        RETRIES => {
            let (_, handler, seq) = retry_of(key)?;
            format!("the retry of event {seq} for handler {handler}")
        }
        DEAD => {
            let (handler, seq) = dead_of(key)?;
            format!("the dead letter {handler}:{seq}")
        }
        PARTS => {
            let (of, part) = part_of(key).filter(|(of, _)| of.first() != Some(&PARTS))?;
            format!("part {part} of {}", name(of))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_their_numbers_and_read_back() {
        let handler: HandlerName = "a-b_1".parse().unwrap();
        assert!(event(255) < event(256) && retry(255, &handler, 9) < retry(256, &handler, 1));
        assert_eq!(number_of(&ids(7)), Some(7));
        assert_eq!(handler_of(&cursor(&handler)), Some(handler.clone()));
        assert_eq!(retry_of(&retry(0, &handler, u64::MAX)), Some((0, handler.clone(), u64::MAX)));
        assert_eq!(dead_of(&dead(&handler, 0)), Some((handler.clone(), 0)));
        assert!(all(DEAD).contains(&dead(&handler, u64::MAX)));
        assert_eq!(dead_of(b"x|a"), None);
    }
}
