//! What is tested, by subject.

mod callers;
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
mod subscriptions;
mod trace;
