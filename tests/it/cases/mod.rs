//! What is tested, by subject.

mod crash;
mod delivery;
mod hooks;
mod life;
mod operator;
mod replace;
mod rotate;
mod subscriptions;
mod trace;
