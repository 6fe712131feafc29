//! The frozen memtable's way to the base.
//!
//! Owns the order of it: all changes, then what makes them durable, and only then the memtable is
//! retired, so that whoever reads finds each change in one of the two. Knows nothing of sled.

use super::{base::Base, memtable::Memtable};

/// Bytes that the base is given before they are to be durable: the less, the shorter a commit waits
/// for the disk while the base writes.
const STEP: usize = 1024 * 1024;
/// The base's memory is held down after this many changes.
const TRIM: usize = 8;

/// Gives the base the frozen memtable, has `settle` make it durable there, and retires it.
pub(crate) fn hand_over<B: Base>(
    memtable: &Memtable,
    base: &B,
    settle: impl FnOnce() -> Result<(), B::Error>,
) -> Result<(), B::Error> {
    write(memtable, base)?;
    settle()?;
    memtable.retire();
    Ok(())
}

/// Writes the frozen memtable to the base, and makes all but the last step of it durable.
fn write<B: Base>(memtable: &Memtable, base: &B) -> Result<(), B::Error> {
    let changes = memtable.frozen().unwrap_or_default();
    let (mut count, mut bytes) = (0, 0);
    for (key, change) in &*changes {
        if memtable.is_active(key) {
            continue;
        }
        let value = change.clone().value();
        count += 1;
        bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        base.change(key, value)?;
        if count % TRIM == 0 {
            base.trim(key)?;
        }
        if bytes >= STEP {
            base.flush()?;
            bytes = 0;
        }
    }
    Ok(())
}
