//! What is tested, by subject.

mod delivery;
mod hooks;
mod life;
mod operator;
mod subscriptions;
mod trace;
