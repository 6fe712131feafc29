//! What is of no more use: what a handler leaves behind that is forgotten. A start finds those that
//! have been out of the configuration for long, and ids that left the window.

use std::{collections::BTreeSet, time::Duration};

use super::{Options, keys, load::Loaded, writer::Entries};
use crate::{clock::Timestamp, name::HandlerName, queue::DeadLetterId};

/// So long its place and its dead letters are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is to be deleted on disk of a handler with these retries (due time, number) and dead letters.
pub(super) fn remains<'a>(
    name: &HandlerName,
    retries: impl Iterator<Item = (u64, u64)>,
    dead: impl Iterator<Item = &'a DeadLetterId>,
) -> Entries {
    let retries = retries.map(|(due, seq)| keys::retry(due, name, seq));
    let keys = [keys::cursor(name)].into_iter().chain(retries).chain(dead.map(keys::dead_key));
    keys.map(|key| (key, None)).collect()
}

/// Whether a dead letter is this handler's.
pub(super) fn is_of(id: &DeadLetterId, handler: &HandlerName) -> bool {
    matches!(id, DeadLetterId::Delivery(of, _) if of == handler)
}

/// Takes it out of what was loaded; what is to be deleted on disk.
pub(super) fn forget(loaded: &mut Loaded, options: &Options, now: Timestamp) -> Entries {
    let configured = |name: &HandlerName| options.handlers.iter().any(|(of, _)| of == name);
    let gone: BTreeSet<HandlerName> = loaded
        .cursors
        .iter()
        .filter(|(name, cursor)| !configured(name) && now.since(cursor.seen) > KEPT)
        .map(|(name, _)| name.clone())
        .collect();
    let mut entries: Entries =
        loaded.expired.drain(..).map(|first| (keys::ids(first), None)).collect();
    if !entries.is_empty() {
        let note = loaded.dedup.noted(loaded.dedup.unpacked.note);
        entries.push((keys::LOG.to_vec(), Some(note.encode())));
    }
    let mut bytes = 0;
    for name in &gone {
        tracing::warn!(handler = %name, "forgotten: it left the configuration 30 days ago");
        loaded.cursors.remove(name);
        let of_it = loaded.retries.iter().filter(|(of, ..)| of == name);
        let retries = of_it.map(|(_, due, seq, _)| (*due, *seq));
        let dead = loaded.dead.iter().map(|(id, ..)| id);
        entries.extend(remains(name, retries, dead.filter(|id| is_of(id, name))));
    }
    loaded.retries.retain(|(name, _, _, size)| {
        let keep = !gone.contains(name);
        bytes += if keep { 0 } else { *size };
        keep
    });
    loaded.dead.retain(|(id, _, size)| {
        let keep = !matches!(id, DeadLetterId::Delivery(name, _) if gone.contains(name));
        bytes += if keep { 0 } else { *size };
        keep
    });
    loaded.live_bytes = loaded.live_bytes.saturating_sub(bytes);
    entries
}
