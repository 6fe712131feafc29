//! What is tested, by subject.

mod callers;
mod crash;
mod delivery;
mod doctor;
mod hooks;
mod life;
mod operator;
mod subscriptions;
mod trace;
