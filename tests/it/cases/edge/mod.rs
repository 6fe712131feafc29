//! The edges: events that break rules, an output that nobody reads, signals at any moment.

mod odd;
mod signed;
