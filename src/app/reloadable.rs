//! What SIGHUP can read anew.

/// Something that is read from files.
pub(super) trait Reloadable: Send + Sync {
    /// Reads them again; on an error what was read before stays.
    fn reload(&self) -> anyhow::Result<()>;
}
