//! The names of attributes (`CloudEvents` 1.0.2, sections 2 and 3).

/// The attributes that every event has, as a reader would look for them.
pub(super) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Whether this can be an attribute's name (section 3, naming conventions).
pub(super) fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Whether it is an attribute of the core specification.
pub(super) fn is_core(name: &str) -> bool {
    REQUIRED.contains(&name)
        || matches!(name, "datacontenttype" | "dataschema" | "subject" | "time")
}
