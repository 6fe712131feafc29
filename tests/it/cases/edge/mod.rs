//! The edges: events that break rules, an output that nobody reads, signals at any moment.

mod batches;
mod demo;
mod descriptors;
mod odd;
mod output;
mod processes;
mod signals;
mod signed;
mod unread;
