//! The real binary against the stand-in: real TLS, a real disk, real handlers.

mod support;

mod crash;
mod delivery;
mod hooks;
mod life;
mod operator;
mod subscriptions;
mod trace;
