//! The writing side: one thread that takes what waits, commits it with one sync, and answers then.

mod admission;
pub(super) mod command;
pub(super) mod commit;
pub(super) mod engine;
mod gather;
pub(super) mod high_water;
mod operator;
pub(super) mod upkeep;
pub(super) mod writer;
