//! What a start finds to be of no more use: ids that left the window, and what a handler leaves
//! behind that has been out of the configuration for long.

use std::{collections::BTreeSet, time::Duration};

use super::{Options, keys, load::Loaded, writer::Entries};
use crate::{clock::Timestamp, name::HandlerName, queue::DeadLetterId};

/// So long its place and its dead letters are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

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
        entries.push((keys::cursor(name), None));
    }
    loaded.retries.retain(|(name, due, seq, size)| {
        let keep = !gone.contains(name);
        if !keep {
            entries.push((keys::retry(*due, name, *seq), None));
            bytes += size;
        }
        keep
    });
    loaded.dead.retain(|(id, _, size)| {
        let keep = !matches!(id, DeadLetterId::Delivery(name, _) if gone.contains(name));
        if !keep {
            entries.push((keys::dead_key(id), None));
            bytes += size;
        }
        keep
    });
    loaded.live_bytes = loaded.live_bytes.saturating_sub(bytes);
    entries
}
