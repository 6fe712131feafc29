//! From where Altinn Events sends: the ranges that it publishes, under names.
//!
//! Altinn's documentation says that the new and the former addresses must both be let in until
//! further notice. It names none for its other environments.

/// The names that `allow_from` knows, each with its networks.
pub(in crate::config) const SETS: [(&str, &[&str]); 2] = [
    ("altinn-prod", &["51.13.20.208/31", "51.13.20.210/31", "20.100.46.139/32"]),
    ("altinn-tt02", &["20.100.48.118/31", "20.100.48.120/31", "20.100.24.41/32"]),
];
