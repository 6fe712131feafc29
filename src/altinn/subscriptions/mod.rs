//! The subscriptions that make Altinn push to us.
//!
//! Owns what is wanted against what Altinn has, and who may remove what. `plan` decides and is pure,
//! `executor` carries a plan out; the `reconciler` does both for as long as the daemon runs, and
//! `commands` once.

pub mod api;
pub mod commands;
mod executor;
pub mod history;
pub mod history_file;
pub mod hook_url;
mod in_order;
pub mod local;
mod ownership;
pub mod plan;
pub mod public_url_probe;
pub mod reconciler;
pub mod status;
