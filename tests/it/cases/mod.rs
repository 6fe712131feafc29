//! What is tested, by subject.

pub(crate) mod callers;
mod configuration;
mod delivery;
mod doctor;
mod edge;
mod feed;
mod hooks;
mod life;
mod operator;
mod replace;
mod replay;
mod rotate;
mod store;
mod strangers;
mod subscriptions;
mod trace;
mod upkeep;
