//! What any store must keep: one suite of conformance for all of them, and sled compared with the
//! reference model, call by call, over made-up histories.
//!
//! A few hundred histories by default; thousands with `BREVDUE_TESTS=long`.

#![cfg(test)]

mod conformance;
mod histories;
mod operating;
mod support;
