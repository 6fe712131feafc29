//! What is tested, by subject.

mod callers;
mod delivery;
mod doctor;
mod feed;
mod hooks;
mod life;
mod operator;
mod replace;
mod replay;
mod rotate;
mod store;
mod subscriptions;
mod trace;
mod upkeep;
