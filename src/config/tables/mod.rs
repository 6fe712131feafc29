//! The tables of the configuration: for each its type, and what is checked of it.
//!
//! `root` begins with the whole. Each table reports all that is wrong with its own; none opens
//! anything.

pub(crate) mod address;
pub(crate) mod altinn;
mod altinn_networks;
mod bounds;
pub(crate) mod brought;
pub(crate) mod handler;
mod listen;
pub(crate) mod pattern;
pub(crate) mod root;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod subscription;
