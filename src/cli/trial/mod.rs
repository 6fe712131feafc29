//! Commands to try brevdue without Altinn.

pub(super) mod demo;
pub(super) mod simulator;
