//! What is tested, by subject.

mod delivery;
mod feed;
mod hooks;
mod life;
mod operator;
mod replace;
mod rotate;
mod store;
mod subscriptions;
mod trace;
