//! What an operator may get wrong, and what happens to files while the daemon runs and beside it.

mod broken;
mod desk;
mod hangups;
mod limits;
mod misplaced;
mod ownership;
mod passed;
mod reading;
mod reload;
mod silent;
mod strange;
mod token_endpoint;
