//! Groups of events as they stand in the log.

use super::super::{
    codec::record::{Head, decode_group},
    keys,
    read_error::{ReadError, whole},
    state::recent::Group,
};
use crate::{
    queue::StoredEvent,
    store::{View, codec::Stub},
};

/// Groups that are read beside one at most, and their bytes.
const AHEAD: usize = 64;
const AHEAD_BYTES: usize = 64 * 1024;

/// The group that holds this event; without events if a repair noted that they are lost.
pub(crate) fn group_of(view: &View, seq: u64) -> Result<Option<Group>, ReadError> {
    let Some(entry) = view.range(keys::event(0)..=keys::event(seq)).next_back() else {
        return Ok(None);
    };
    let (key, value) = entry?;
    let group = group(view, &key, &value).map_err(|error| error.of(&key))?;
    // The record before a hole is another one.
    let group = group.filter(|(head, _)| seq < head.end());
    Ok(group.map(|(head, events)| Group::new(head.first, events)))
}

/// That group and some of those behind it, since they are wanted next; none if there is no such
/// group. What is wrong behind the first one is told when its turn comes.
pub(super) fn groups_from(view: &View, seq: u64) -> Result<Vec<Group>, ReadError> {
    let mut groups: Vec<Group> = group_of(view, seq)?.into_iter().collect();
    let Some(first) = groups.first() else { return Ok(groups) };
    let (mut end, mut bytes) = (first.end(), first.bytes());
    for entry in view.range(keys::event(end)..keys::all(keys::EVENTS).end).take(AHEAD) {
        let Ok((key, value)) = entry else { break };
        bytes += value.len();
        if bytes > AHEAD_BYTES || Stub::of(&value).is_some() {
            break;
        }
        match group(view, &key, &value) {
            Ok(Some((head, events))) if head.first == end && !events.is_empty() => {
                end = head.end();
                groups.push(Group::new(head.first, events));
            }
            Ok(_) | Err(_) => break,
        }
    }
    Ok(groups)
}

/// The group under this key; `None` if it was deleted meanwhile.
pub(crate) fn group(
    view: &View,
    key: &[u8],
    value: &[u8],
) -> Result<Option<(Head, Vec<StoredEvent>)>, ReadError> {
    let Some(value) = whole(view, key, value)? else { return Ok(None) };
    let (head, events) = decode_group(&value)?;
    Ok(Some((head.checked(key)?, events)))
}
