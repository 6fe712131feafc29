//! What is tested, by subject.

mod crash;
mod delivery;
mod hooks;
mod life;
mod operator;
mod store;
mod subscriptions;
mod trace;
