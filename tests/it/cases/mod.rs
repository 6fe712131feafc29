//! What is tested, by subject.

mod crash;
mod delivery;
mod feed;
mod hooks;
mod life;
mod operator;
mod replace;
mod rotate;
mod subscriptions;
mod trace;
