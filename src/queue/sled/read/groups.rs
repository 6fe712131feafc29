//! Groups of events as they stand in the log.

use std::collections::VecDeque;

use crate::{
    queue::{
        StoredEvent,
        sled::{
            codec::record::{Head, decode_group},
            keys,
            read_error::{ReadError, decoded},
            state::recent::Group,
        },
    },
    store::{View, codec::Stub},
};

/// Groups that are read beside one at most, and their bytes.
const AHEAD: usize = 64;
const AHEAD_BYTES: usize = 64 * 1024;

/// The group that holds this event; without events if a repair noted that they are lost.
pub(super) fn group_of(view: &View, seq: u64) -> Result<Option<(Head, Group)>, ReadError> {
    let Some(entry) = view.range(keys::event(0)..=keys::event(seq)).next_back() else {
        return Ok(None);
    };
    let (key, value) = entry?;
    // The record before a hole is another one.
    let group = group(view, &key, &value)?.filter(|(head, _)| seq < head.end());
    Ok(group.map(|(head, events)| {
        let group = Group::new(head.first, events);
        (head, group)
    }))
}

/// That group and some of those behind it, since they are wanted next; none if there is no such
/// group. What is wrong behind the first one is told when its turn comes.
pub(super) fn groups_from(view: &View, seq: u64) -> Result<VecDeque<Group>, ReadError> {
    let mut groups = VecDeque::new();
    let Some((head, first)) = group_of(view, seq)? else { return Ok(groups) };
    let (mut end, mut bytes) = (head.end(), first.bytes());
    groups.push_back(first);
    for entry in view.range(keys::event(end)..keys::all(keys::EVENTS).end).take(AHEAD) {
        let Ok((key, value)) = entry else { break };
        bytes += value.len();
        if bytes > AHEAD_BYTES || Stub::of(&value).is_some() {
            break;
        }
        let Ok(Some((head, events))) = group(view, &key, &value) else { break };
        if head.first != end || events.is_empty() {
            break;
        }
        end = head.end();
        groups.push_back(Group::new(head.first, events));
    }
    Ok(groups)
}

/// The group under this key; `None` if it was deleted meanwhile.
pub(super) fn group(
    view: &View,
    key: &[u8],
    value: &[u8],
) -> Result<Option<(Head, Vec<StoredEvent>)>, ReadError> {
    let decode = |value: &[u8]| {
        let (head, events) = decode_group(value)?;
        Ok((head.checked(key)?, events))
    };
    decoded(view, key, value, decode)
}
