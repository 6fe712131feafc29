//! What an operator does to a running daemon, and what a daemon does to Altinn while it runs.

mod admin_tcp;
mod calls;
mod dead_letters;
mod rights;
mod simulator;
mod strangers;
mod terminal;
