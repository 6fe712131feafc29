//! Which events of the feed are a subscription's.

/// A subscription's filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// The whole URN.
    pub resource: String,
    /// Exact; `None` for every subject.
    pub subject: Option<String>,
    /// Exact; `None` for every type.
    pub ty: Option<String>,
}
