//! Signing in at Maskinporten and Altinn, and what an identity may do.

pub(super) mod claims;
pub(super) mod exchange;
pub(super) mod maskinporten;
pub(super) mod policy;
pub(super) mod refusal;
pub(super) mod tokens;
