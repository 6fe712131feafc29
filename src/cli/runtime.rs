//! The runtime of a command that asks and ends.

use crate::app::descriptors;

/// Files that may be open at least: the runtime panics when it cannot have its own.
const FILES: u64 = 24;

/// Runs it to its end on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    descriptors::raise_to(FILES)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
