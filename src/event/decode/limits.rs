//! How large an event may be, and how many may come at once.

/// Deepest nesting of objects and arrays, the event itself and its batch included. Well under
/// what `serde_json` refuses (128), so that whatever is stored can be read again.
pub const MAX_DEPTH: usize = 64;
/// Most attributes of one event, its data included.
pub const MAX_ATTRIBUTES: usize = 64;
/// Longest `id`, `source` and `type`, in bytes.
pub const MAX_IDENTITY: usize = 4096;
/// Most events in one batch.
pub const MAX_BATCH: usize = 1000;
