//! Signing in: from a key to the token that opens Altinn's APIs.
//!
//! A token's way: the `TokenCache` asks the `Exchange`, which asks `Maskinporten`.

pub mod cache;
pub mod exchange;
pub mod maskinporten;
pub mod token;
