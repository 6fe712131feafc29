//! Commands for who sets a daemon up: run it, and look at what it stands on.

pub(super) mod check;
pub(super) mod doctor;
pub(super) mod run;
pub(super) mod verify;
